//! Tests of the harness's socket clients: against a server that only follows a script, and against the real one.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::http::read_answer;
use crate::harness::socketio::{Packet, SocketIo};
use crate::harness::websocket::{Message, WebSocket};
use crate::harness::{Client, TestApp};
use crate::kills::start;

const WAIT_MAX: Duration = Duration::from_secs(20);
/// The answer to the key that the client always sends.
const ACCEPT: &str = "8+af178G7rM+Vz8ZJf3to1Tf45E=";
const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// Serves one client: answers its handshake, sends frames, and reads until the client is gone. Returns the address, and
/// the kinds and contents of the client's frames.
fn scripted(accept: &str, frames: &[(u8, &str)]) -> (Client, JoinHandle<Vec<(u8, String)>>) {
    let listener = TcpListener::bind("localhost:0").unwrap();
    let client = Client::new(&listener.local_addr().unwrap().to_string());
    let head = format!("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {accept}\r\n\r\n");
    let mut output = head.into_bytes();
    for (kind, content) in frames {
        output.extend([0x80 | kind, content.len() as u8]);
        output.extend(content.as_bytes());
    }
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // The head of a request has the same form as that of an answer.
        drop(read_answer(&mut stream));
        stream.write_all(&output).unwrap();
        let mut input = Vec::new();
        drop(stream.read_to_end(&mut input));
        short_frames(&input)
    });
    (client, server)
}

/// Reads a client's frames, each of which has a mask and less than 126 bytes.
fn short_frames(mut input: &[u8]) -> Vec<(u8, String)> {
    let mut frames = Vec::new();
    while let [first, length, m0, m1, m2, m3, rest @ ..] = input {
        assert!(first & 0x80 != 0 && length & 0x80 != 0, "a whole message with a mask");
        let (content, after) = rest.split_at(usize::from(length & 0x7F));
        let mask = [m0, m1, m2, m3].into_iter().cycle();
        let content = content.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect();
        frames.push((first & 0x0F, String::from_utf8(content).unwrap()));
        input = after;
    }
    frames
}

#[test]
fn the_websocket_client_answers_pings_and_reports_the_end() {
    // The code of a close has two bytes, here 0x03 and 0x69.
    let frames = [(TEXT, "one"), (PING, "alive?"), (TEXT, "two"), (CLOSE, "\x03\x69bye")];
    let (client, server) = scripted(ACCEPT, &frames);
    let mut socket = WebSocket::open(&client, "/").unwrap();
    socket.send("hello").unwrap();
    for text in ["one", "two"] {
        assert_eq!(socket.read_text(WAIT_MAX).unwrap(), text);
    }
    let closed = Message::Closed { code: 0x0369, reason: "bye".to_owned() };
    assert_eq!(socket.read(WAIT_MAX).unwrap(), closed);
    assert_eq!(socket.read(Duration::from_millis(1)).unwrap_err().kind(), ErrorKind::TimedOut);
    drop(socket);
    let sent = [(TEXT, "hello".to_owned()), (PONG, "alive?".to_owned())];
    assert_eq!(server.join().unwrap(), sent);

    let (client, server) = scripted("another key", &[]);
    assert_eq!(WebSocket::open(&client, "/").err().map(|error| error.kind()), Some(ErrorKind::InvalidData));
    server.join().unwrap();
}

#[test]
fn the_socketio_client_connects_answers_pings_and_matches_acknowledgements() {
    let frames = [
        (TEXT, r#"0{"sid":"s"}"#),
        (TEXT, r#"40{"sid":"me"}"#),
        (TEXT, "2"),
        (TEXT, r#"42["welcome",{"a":1}]"#),
        (TEXT, "430[{}]"),
        (TEXT, r#"431[{"ok":true}]"#),
        (TEXT, "41"),
    ];
    let (client, server) = scripted(ACCEPT, &frames);
    let mut socket = SocketIo::open(&client, "/socket.io", Some("key")).unwrap();
    assert_eq!(socket.sid, "me");
    let acks = ["1", "2"].map(|data| socket.emit_with_ack("e", data).unwrap());
    socket.emit("e", "3").unwrap();
    let welcome = Packet::Event { name: "welcome".to_owned(), data: json!({ "a": 1 }) };
    assert_eq!(socket.read(WAIT_MAX).unwrap(), welcome);
    assert_eq!(socket.read_ack(acks[1], WAIT_MAX).unwrap(), json!({ "ok": true }));
    assert_eq!(socket.read(WAIT_MAX).unwrap_err().kind(), ErrorKind::ConnectionAborted);
    drop(socket);
    let sent = [r#"40{"token":"key"}"#, r#"420["e",1]"#, r#"421["e",2]"#, r#"42["e",3]"#, "3"];
    assert_eq!(server.join().unwrap(), sent.map(|text| (TEXT, text.to_owned())));
}

#[test]
fn the_real_server_reads_frames_of_every_length_and_closes_when_asked() {
    let app = TestApp::with(start(""));
    let path = "/v1/streams/revenue/socket";
    let mut socket = WebSocket::open(&app.client(), path).unwrap();
    for bytes in [125, 126, 65_535, 65_536] {
        let event = r#"{"userId":"u","name":"add_revenue","value":1,"pad":""}"#;
        let pad = "x".repeat(bytes - event.len());
        socket.send(&event.replace(r#""pad":"""#, &format!(r#""pad":"{pad}""#))).unwrap();
    }
    socket.send("{}").unwrap();
    for position in 0..4 {
        let answer: Value = serde_json::from_str(&socket.read_text(WAIT_MAX).unwrap()).unwrap();
        assert_eq!((&answer["accepted"], &answer["position"]), (&json!(1), &json!(position)));
    }
    assert!(socket.read_text(WAIT_MAX).unwrap().starts_with(r#"{"accepted":0,"error":{"#));
    assert_eq!(socket.close().unwrap(), [""; 0]);

    let wrong_key = app.anonymous().with_header("Authorization", "mr_wrong");
    let refusals = [
        WebSocket::open(&wrong_key, path).err().unwrap(),
        SocketIo::open(&app.anonymous(), "/socket.io", None).err().unwrap(),
    ];
    assert!(refusals.iter().all(|error| error.kind() == ErrorKind::Other), "{refusals:?}");
    let mut socket = SocketIo::open(&app.anonymous(), "/socket.io", Some(&app.key())).unwrap();
    let ack = socket.emit_with_ack("sale", r#"{"userId":"u","name":"add_revenue","value":1}"#).unwrap();
    assert_eq!(socket.read_ack(ack, WAIT_MAX).unwrap()["status"], "success");
    socket.close().unwrap();
    assert_eq!(app.balance("u").as_deref(), Some("5"));
}

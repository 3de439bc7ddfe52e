//! Live: the same subscriptions over WebSockets and Socket.IO.

use std::io::Result;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::socketio::{Packet, SocketIo};
use crate::harness::websocket::{Message, WebSocket};
use crate::harness::{Client, TestApp};

const WAIT: Duration = Duration::from_secs(30);

fn sell(client: &Client, value: u64) {
    let body = json!({ "userId": "ann", "name": "add_revenue", "value": value }).to_string();
    assert_eq!(client.post("/v1/streams/revenue/events?wait=applied", &body).status, 200);
}

fn read(socket: &mut WebSocket) -> Value {
    serde_json::from_str(&socket.read_text(WAIT).expect("a text")).expect("JSON")
}

fn ask(socket: &mut WebSocket, frame: &Value) -> Value {
    socket.send(&frame.to_string()).expect("sent");
    read(socket)
}

/// Reads messages until one is a change.
fn change(socket: &mut WebSocket) -> Value {
    loop {
        let message = read(socket);
        if message["event"] == "change" {
            return message;
        }
        assert_eq!(message["event"], "place", "{message}");
    }
}

#[test]
fn a_websocket_takes_subscriptions_and_ends_them() {
    let app = TestApp::start();
    let client = app.client();
    let mut socket = WebSocket::open(&client, "/v1/live/socket").expect("open");
    let balance = json!({ "view": "revenue", "key": "ann" });
    assert_eq!(ask(&mut socket, &json!({ "subscribe": balance })), json!({ "subscribed": 0 }));
    let first = change(&mut socket);
    assert_eq!((&first["subscription"], &first["data"]["balance"]), (&json!(0), &Value::Null));
    sell(&client, 5);
    assert_eq!(change(&mut socket)["data"], json!({ "view": "revenue", "key": "ann", "balance": 5 }));
    socket.send(&json!({ "subscribe": { "stream": "revenue", "from": 0 } }).to_string()).expect("sent");
    assert_eq!(read(&mut socket), json!({ "subscribed": 1 }));
    let event = change(&mut socket);
    assert_eq!((&event["subscription"], &event["data"]["position"]), (&json!(1), &json!(0)));
    assert_eq!(ask(&mut socket, &json!({ "unsubscribe": 0 })), json!({ "unsubscribed": 0 }));
    sell(&client, 6);
    let next = change(&mut socket);
    assert_eq!((&next["subscription"], &next["data"]["position"]), (&json!(1), &json!(1)));
    let after = next["id"].clone();
    for (frame, code) in [
        (json!({ "unsubscribe": 0 }), "invalid-parameter"),
        (json!({ "subscribe": { "view": "nothing", "key": "a" } }), "not-found"),
        (json!({ "subscribe": { "stream": "revenue", "after": "x" } }), "invalid-parameter"),
        (json!({ "subscribe": "revenue" }), "invalid-parameter"),
        (json!({ "userId": "ann", "name": "add_revenue", "value": 1 }), "invalid-parameter"),
    ] {
        let answer = ask(&mut socket, &frame);
        assert!(answer["error"]["type"].as_str().unwrap().ends_with(code), "{frame}: {answer}");
    }
    let subscribe = json!({ "subscribe": { "stream": "revenue", "after": after } });
    assert_eq!(ask(&mut socket, &subscribe), json!({ "subscribed": 2 }));
    sell(&client, 7);
    let two = [change(&mut socket), change(&mut socket)].map(|message| message["data"]["position"].clone());
    assert_eq!(two, [json!(2), json!(2)]);
}

#[test]
fn a_websocket_that_sends_can_watch_what_becomes_of_its_events() {
    let app = TestApp::start();
    let mut socket = WebSocket::open(&app.client(), "/v1/streams/revenue/socket").expect("open");
    assert_eq!(
        ask(&mut socket, &json!({ "subscribe": { "view": "revenue", "key": "ann" } })),
        json!({ "subscribed": 0 })
    );
    change(&mut socket);
    socket.send(r#"{"userId":"ann","name":"add_revenue","value":3}"#).expect("sent");
    let mut seen = [read(&mut socket), read(&mut socket)];
    seen.sort_by_key(|message| message["accepted"].is_null());
    assert_eq!((&seen[0]["accepted"], &seen[1]["data"]["balance"]), (&json!(1), &json!(3)));
}

#[test]
fn a_websocket_shows_a_token_in_its_first_frame_and_closes_when_it_ends() {
    let app = TestApp::start();
    let made = app.client().post("/v1/keys", r#"{"name":"page","scopes":["read"]}"#).json();
    let key = made["key"].as_str().unwrap();
    let reader = app.anonymous().with_header("Authorization", key);
    let token = reader.post("/v1/tokens", r#"{"view":"revenue","key":"ann"}"#).json()["token"].clone();
    let mut socket = WebSocket::open(&app.anonymous(), "/v1/live/socket").expect("open");
    assert_eq!(ask(&mut socket, &json!({ "auth": { "token": token } })), json!({ "signedIn": true }));
    let refused = ask(&mut socket, &json!({ "subscribe": { "view": "revenue", "key": "bob" } }));
    assert!(refused["error"]["type"].as_str().unwrap().ends_with("forbidden"), "{refused}");
    assert_eq!(
        ask(&mut socket, &json!({ "subscribe": { "view": "revenue", "key": "ann" } })),
        json!({ "subscribed": 0 })
    );
    change(&mut socket);
    let id = made["id"].as_str().unwrap();
    app.client().request("DELETE", &format!("/v1/keys/{id}"), None);
    assert!(matches!(socket.read(WAIT).expect("a close"), Message::Closed { code: 1008, .. }));
    let mut wrong = WebSocket::open(&app.anonymous(), "/v1/live/socket").expect("open");
    let refused = ask(&mut wrong, &json!({ "auth": { "token": "mrt_x.y" } }));
    assert!(refused["error"]["type"].as_str().unwrap().ends_with("unauthorized"), "{refused}");
}

/// Returns the data of the next event `live` that is a change, and the callbacks before it.
fn live(client: &mut SocketIo) -> Value {
    loop {
        match client.read(WAIT).expect("a packet") {
            Packet::Event { name, data } if name == "live" && data["event"] == "change" => return data,
            _ => {}
        }
    }
}

#[test]
fn a_socketio_client_subscribes_with_a_callback() -> Result<()> {
    let app = TestApp::start();
    let key = app.key();
    let mut client = SocketIo::open(&app.anonymous(), "/socket.io", Some(&key))?;
    let ack = client.emit_with_ack("subscribe", r#"{"view":"revenue","key":"ann"}"#)?;
    let answer = client.read_ack(ack, WAIT)?;
    assert_eq!((&answer["status"], &answer["subscription"]), (&json!("success"), &json!(0)));
    assert_eq!(live(&mut client)["data"]["balance"], Value::Null);
    sell(&app.client(), 4);
    assert_eq!(live(&mut client)["data"], json!({ "view": "revenue", "key": "ann", "balance": 4 }));
    let ack = client.emit_with_ack("subscribe", r#"{"view":"revenue"}"#)?;
    let answer = client.read_ack(ack, WAIT)?;
    assert_eq!(
        (&answer["status"], &answer["code"]),
        (&json!("error"), &json!("invalid-parameter")),
        "{answer}"
    );
    let ack = client.emit_with_ack("unsubscribe", "0")?;
    assert_eq!(client.read_ack(ack, WAIT)?["status"], "success");
    let ack = client.emit_with_ack("unsubscribe", "0")?;
    assert_eq!(client.read_ack(ack, WAIT)?["status"], "error");
    client.close()
}

#[test]
fn a_socketio_client_that_may_only_read_connects_and_cannot_send() -> Result<()> {
    let app = TestApp::start();
    let made = app.client().post("/v1/keys", r#"{"name":"page","scopes":["read"]}"#).json();
    let reader = app.anonymous().with_header("Authorization", made["key"].as_str().unwrap());
    let token = reader.post("/v1/tokens", r#"{"stream":"revenue"}"#).json();
    let mut client = SocketIo::open(&app.anonymous(), "/socket.io", token["token"].as_str())?;
    let ack = client.emit_with_ack("subscribe", r#"{"stream":"revenue"}"#)?;
    assert_eq!(client.read_ack(ack, WAIT)?["status"], "success");
    sell(&app.client(), 4);
    assert_eq!(live(&mut client)["data"]["position"], 0);
    let ack = client.emit_with_ack("clientData", r#"{"a":1}"#)?;
    assert_eq!(client.read_ack(ack, WAIT)?["status"], "error");
    let ack = client.emit_with_ack("subscribe", r#"{"view":"revenue","key":"ann"}"#)?;
    assert_eq!(client.read_ack(ack, WAIT)?["code"], "forbidden");
    let id = made["id"].as_str().unwrap();
    app.client().request("DELETE", &format!("/v1/keys/{id}"), None);
    assert!(client.read(WAIT).is_err(), "the token ends with its key");
    Ok(())
}

//! Invalid and hostile input. It is refused with a reason, nothing of it is stored, memory stays bounded, and
//! other clients are not delayed.

use std::io::{Read, Write};
use std::net::Shutdown;

use crate::harness::http::read_answer;
use crate::harness::{Client, TestApp, wait_for};

const EVENTS: &str = "/v1/streams/revenue/events";
const GOOD: &str = r#"{"userId":"u","name":"add_revenue","value":1}"#;
/// Far less memory than the largest bodies would need if they were parsed into values.
const GROWTH_KIB_MAX: u64 = 160 * 1024;

/// Returns an event with one more key, `x`.
fn with(value: &str) -> Vec<u8> {
    format!(r#"{{"userId":"u","name":"add_revenue","value":1,"x":{value}}}"#).into_bytes()
}

fn value(value: &str) -> Vec<u8> {
    format!(r#"{{"userId":"u","name":"add_revenue","value":{value}}}"#).into_bytes()
}

fn post(client: &Client, path: &str, body: &[u8]) -> (u16, String) {
    let answer = client.request("POST", path, Some(("application/json", body)));
    (answer.status, answer.text())
}

fn memory_kib(app: &TestApp) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", app.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn every_invalid_event_is_refused_with_its_reason_at_every_source() {
    let app = TestApp::start();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_objects = r#"{"a":"#.repeat(100_000);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nothing", b"".to_vec(), "expected a JSON object, got nothing"),
        ("spaces", b" \r\n ".to_vec(), "expected a JSON object, got nothing"),
        ("cut", GOOD.as_bytes()[..GOOD.len() - 1].to_vec(), "the JSON ends inside"),
        ("cut in a value", GOOD.as_bytes()[..20].to_vec(), "the JSON ends inside"),
        (
            "more after it",
            format!("{GOOD}{GOOD}").into_bytes(),
            "there is more text after the end of the JSON",
        ),
        ("null", b"null".to_vec(), "expected a JSON object, got null"),
        ("text", b"\"event\"".to_vec(), "expected a JSON object, got text"),
        ("not JSON", b"userId=u&value=1".to_vec(), "something that is not JSON"),
        ("a mark before it", format!("\u{feff}{GOOD}").into_bytes(), "something that is not JSON"),
        ("NaN", value("NaN"), "value: expected a JSON value; a text must be in double quotes"),
        ("infinity", value("-Infinity"), "value: "),
        ("a plus sign", value("+1"), "value: expected a JSON value; a text must be in double quotes"),
        ("hexadecimal", value("0x10"), "expected `,` or `}`"),
        ("leading zeros", value("007"), "value: a number is not written as JSON requires"),
        ("10^400", value("1e400"), "value: has more than 15 digits before the point"),
        ("10^999999999999", value("1e999999999999"), "value: has more than 15 digits before the point"),
        ("10^-400", value("1e-400"), "value: has more than 4 decimal places"),
        ("a million digits", value(&"9".repeat(900_000)), "value: has more than 15 digits before the point"),
        ("an array for a number", value(&deep), "value: expected a number, got an array"),
        ("deep arrays", with(&deep), "x: is nested deeper than 64"),
        (
            "deep objects, cut",
            with(&deep_objects),
            "x: expected a JSON value; a text must be in double quotes",
        ),
        (
            "NUL in a field",
            br#"{"userId":"a\u0000b","name":"add_revenue","value":1}"#.to_vec(),
            "userId: contains a NUL character",
        ),
        ("NUL elsewhere", with(r#"[1e400,{"y":["\u0000"]}]"#), "x: contains a NUL character"),
        ("NUL in a key", with(r#"{"\u0000":1}"#), "x: contains a NUL character"),
        (
            "NUL in a top key",
            br#"{"userId":"u","name":"add_revenue","value":1,"\u0000":1}"#.to_vec(),
            "has a NUL character in its name",
        ),
        (
            "raw NUL",
            b"{\"userId\":\"a\0\",\"name\":\"add_revenue\",\"value\":1}".to_vec(),
            "userId: a text contains a control character",
        ),
        (
            "raw line break",
            b"{\"userId\":\"a\n\",\"name\":\"add_revenue\",\"value\":1}".to_vec(),
            "userId: a text contains a control character",
        ),
        (
            "half a surrogate pair",
            br#"{"userId":"\ud83d","name":"add_revenue","value":1}"#.to_vec(),
            "userId: contains a broken escape",
        ),
        ("the other half first", with(r#""\udc00\ud800""#), "x: contains a broken escape"),
        ("a broken escape", with(r#""\q""#), "x: a text contains an unknown escape"),
        ("a key twice", with(r#"1,"x":1"#), "x: is given twice"),
        ("a key twice, written differently", with(r#"1,"\u0078":1"#), "x: is given twice"),
        ("a field twice", with(r#"1,"value":1000"#), "value: is given twice"),
        (
            "too many keys",
            with(
                &(0..300)
                    .map(|n| format!(r#"1,"k{n}":1"#))
                    .collect::<Vec<_>>()
                    .join(",\"y\":")
                    .replace("\"y\":1,", ""),
            ),
            "has more than 256 keys",
        ),
    ];
    for (name, body, reason) in &cases {
        for path in ["/liveEvent", EVENTS] {
            let (status, text) = post(&app.client(), path, body);
            assert_eq!(status, 400, "{name} at {path}: {text}");
            let refusal: serde_json::Value = serde_json::from_str(&text).unwrap();
            let message = refusal["error"].as_str().or(refusal["detail"].as_str()).unwrap();
            assert!(message.contains(reason), "{name} at {path}: {message}");
            assert!(message.len() < 300, "{name} at {path}: a message of {} bytes", message.len());
        }
    }
    for (name, body, reason) in [
        (
            "not UTF-8",
            b"{\"userId\":\"\xff\",\"name\":\"add_revenue\",\"value\":1}".to_vec(),
            "the body is not valid UTF-8",
        ),
        ("UTF-16", b"\xff\xfe{\0}\0".to_vec(), "the body is not valid UTF-8"),
        (
            "compressed, but without Content-Encoding",
            b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xed\xc1".to_vec(),
            "the body is not valid UTF-8",
        ),
    ] {
        for path in ["/liveEvent", EVENTS] {
            let (status, text) = post(&app.client(), path, &body);
            assert!(status == 400 && text.contains(reason), "{name} at {path}: {text}");
        }
    }
    assert_eq!(app.log_end(), 0, "no event is stored");
}

#[test]
fn a_body_that_is_too_large_is_refused_and_the_response_arrives() {
    let app = TestApp::start();
    let large = with(&format!("\"{}\"", "x".repeat(10 * 1024 * 1024)));
    let unpacked = app.client().with_header("Content-Encoding", "br");
    for (client, status) in [(app.client(), 413), (app.anonymous(), 401), (unpacked, 415)] {
        for _ in 0..5 {
            // The head alone is refused, while the client is still sending. If the server reset the
            // connection now, most clients would report an error and never read the response.
            let mut stream = client.connect().unwrap();
            let head = client.head("POST", "/liveEvent", "application/json", large.len());
            stream.write_all(head.as_bytes()).unwrap();
            large.chunks(64 * 1024).for_each(|piece| stream.write_all(piece).expect("not reset"));
            assert_eq!(read_answer(&mut stream).unwrap().status, status);
        }
    }
    let (status, text) = post(&app.client(), "/liveEvent", &large);
    assert_eq!((status, text.as_str()), (413, r#"{"error":"the body is larger than 1048576 bytes"}"#));
    // A chunked body, whose size is not announced, is limited as well.
    let mut stream = app.client().connect().unwrap();
    let head = app.client().head("POST", "/liveEvent", "application/json", 0);
    stream.write_all(head.replace("Content-Length: 0", "Transfer-Encoding: chunked").as_bytes()).unwrap();
    let piece = [b"10000\r\n", [b' '; 0x10000].as_slice(), b"\r\n"].concat();
    while stream.write_all(&piece).is_ok() {
        let mut byte = [0];
        stream.set_nonblocking(true).unwrap();
        let answered = stream.peek(&mut byte).is_ok();
        stream.set_nonblocking(false).unwrap();
        if answered {
            break;
        }
    }
    assert_eq!(read_answer(&mut stream).unwrap().status, 413);
    assert_eq!(app.log_end(), 0);
}

#[test]
fn memory_stays_bounded_whatever_is_sent() {
    let app = TestApp::start();
    let megabytes = 16 * 1024 * 1024 - 16;
    let numbers = format!("[{}0]", "0,".repeat(megabytes / 2));
    let empty = format!("[{}{{}}]", "{},".repeat(megabytes / 3));
    let deep = "[".repeat(megabytes);
    let many_keys = format!("{{{}\"a\":1}}", "\"a\":1,".repeat(100_000));
    let escapes = String::from_utf8(with(&format!("[{}\"\\n\"]", "[],".repeat(300_000)))).unwrap();
    assert_eq!(post(&app.client(), EVENTS, GOOD.as_bytes()).0, 200);
    let before = memory_kib(&app);
    for (name, path, kind, body) in [
        ("numbers", EVENTS, "application/json", &numbers),
        ("empty objects", EVENTS, "application/json", &empty),
        ("deep", EVENTS, "application/json", &deep),
        ("deep", "/liveEvent", "application/json", &deep),
        ("many keys", "/liveEvent", "application/json", &many_keys),
        ("one long line", EVENTS, "application/x-ndjson", &deep),
        ("an event of many small values", &format!("{EVENTS}?check=only"), "application/json", &escapes),
    ] {
        for _ in 0..2 {
            let answer = app.client().request("POST", path, Some((kind, body.as_bytes())));
            assert!((200..500).contains(&answer.status), "{name}: {}", answer.text());
            assert!(answer.body.len() < 200_000, "{name}: an answer of {} bytes", answer.body.len());
        }
        let grown = memory_kib(&app).saturating_sub(before);
        assert!(grown < GROWTH_KIB_MAX, "{name}: {grown} KiB more");
    }
    assert_eq!(app.log_end(), 1);
}

#[test]
fn an_incomplete_body_stores_nothing() {
    let app = TestApp::start();
    let body = format!("{GOOD}\n{GOOD}\n");
    for (path, kind) in
        [("/liveEvent", "application/json"), (EVENTS, "application/json"), (EVENTS, "application/x-ndjson")]
    {
        let mut stream = app.client().connect().unwrap();
        let head = app.client().head("POST", path, kind, body.len() + 1);
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Both).unwrap();
    }
    // Now the client closes only its sending side. The server may answer, but it must not acknowledge.
    let mut stream = app.client().connect().unwrap();
    let head = app.client().head("POST", EVENTS, "application/x-ndjson", body.len() + 1);
    stream.write_all((head + &body).as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    if let Ok(answer) = read_answer(&mut stream) {
        assert!(answer.status >= 400, "{}", answer.text());
    }
    assert_eq!(post(&app.client(), EVENTS, GOOD.as_bytes()).0, 200);
    assert_eq!(app.balance("u").as_deref(), Some("1"));
    assert_eq!(app.log_end(), 1);
}

#[test]
fn slow_clients_do_not_delay_others() {
    let app = TestApp::start();
    let slow: Vec<_> = (0..100)
        .map(|index| {
            let mut stream = app.client().connect().unwrap();
            let head = app.client().head("POST", "/liveEvent", "application/json", GOOD.len());
            let head = if index % 2 == 0 { &head[..20] } else { &head[..] };
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    let begun = std::time::Instant::now();
    for _ in 0..20 {
        assert_eq!(post(&app.client(), "/liveEvent", GOOD.as_bytes()).0, 200);
    }
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    // One of the slow clients continues, one byte at a time, and is served.
    let mut patient = slow.into_iter().nth(1).unwrap();
    GOOD.bytes().for_each(|byte| patient.write_all(&[byte]).unwrap());
    assert_eq!(read_answer(&mut patient).unwrap().status, 200);
    assert_eq!(app.balance("u").as_deref(), Some("21"));
}

#[test]
fn one_connection_serves_many_requests() {
    let app = TestApp::start();
    let mut stream = app.client().connect().unwrap();
    let one = app.client().head("POST", "/liveEvent", "application/json", GOOD.len()) + GOOD;
    let bad = app.client().head("POST", "/liveEvent", "application/json", 2) + "{}";
    // Send all requests in one write.
    stream.write_all((one.repeat(5) + &bad + &one).as_bytes()).unwrap();
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while text.matches("HTTP/1.1 ").count() < 7 || !text.ends_with('}') {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "closed after {text}");
        text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    let statuses: Vec<&str> = text.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "200", "200", "200", "200", "400", "200"]);
    // Send another request after their responses, on the same connection.
    stream.write_all(one.as_bytes()).unwrap();
    assert_eq!(read_answer(&mut stream).unwrap().status, 200);
    assert_eq!(app.balance("u").as_deref(), Some("7"));
}

#[test]
fn http_1_0_is_served() {
    let app = TestApp::start();
    let key = app.key();
    let head = format!(
        "POST /liveEvent HTTP/1.0\r\nAuthorization: {key}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        GOOD.len()
    );
    let mut stream = app.client().connect().unwrap();
    stream.write_all((head + GOOD).as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.0 200") && text.contains("Event received"), "{text}");
}

#[test]
fn only_known_host_names_are_served() {
    let app = TestApp::configured("hosts = [\"events.example.com\"]\n");
    let ask = |host: &str| {
        let request = format!("GET /health HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
        app.client().raw(request.as_bytes()).unwrap().status
    };
    for known in [
        "localhost",
        "LocalHost:8000",
        "127.0.0.1:1",
        "[::1]:8000",
        "events.example.com",
        "Events.Example.com:443",
    ] {
        assert_eq!(ask(&format!("Host: {known}\r\n")), 200, "{known}");
    }
    for unknown in ["evil.example", "localhost.evil.example", "evil.example:8000", "events.example.com.evil"]
    {
        assert_eq!(ask(&format!("Host: {unknown}\r\n")), 421, "{unknown}");
    }
    // A proxy in front of the server might read these requests differently.
    for wrong in ["", "Host: \r\n", "Host: localhost:x\r\n", "Host: localhost\r\nHost: evil.example\r\n"] {
        assert_eq!(ask(wrong), 400, "{wrong}");
    }
    for coding in ["gzip, chunked", "chunked, chunked", "chunked\r\nTransfer-Encoding: chunked"] {
        let request = format!("Host: localhost\r\nTransfer-Encoding: {coding}\r\n");
        let request = format!("POST /liveEvent HTTP/1.1\r\n{request}\r\n0\r\n\r\n");
        let answer = app.client().raw(request.as_bytes()).unwrap();
        assert_eq!((answer.status, answer.header("connection")), (400, Some("close")), "{coding}");
    }
    let named = "GET /health HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    let answer = app.client().raw(named.as_bytes()).unwrap();
    assert!(answer.text().contains("`evil.example`") && answer.text().contains("hosts"), "{}", answer.text());
}

#[test]
fn refusals_before_any_route_have_the_contracts_shape() {
    let app = TestApp::start();
    for (path, host, status) in [
        ("/liveEvent", "evil.example", 421),
        ("/userEvents/u", "evil.example", 421),
        ("/userEvents/%FF", "localhost", 400),
        ("/userEvents/u?x=%FF", "localhost", 400),
        ("/userEvents/a/b", "localhost", 404),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = app.client().raw(request.as_bytes()).unwrap();
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.json()["error"].is_string(), "{path}: {}", answer.text());
    }
}

#[test]
fn a_malformed_request_gets_a_response_or_a_closed_connection() {
    let app = TestApp::start();
    let large = format!("GET /health HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(1024 * 1024));
    let many = format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(10_000));
    let long_path = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(1024 * 1024));
    for (name, request, statuses) in [
        ("a large header", large, [431, 431]),
        ("many headers", many, [431, 431]),
        ("a long path", long_path, [414, 431]),
        ("no protocol", "hello\r\n\r\n".to_owned(), [400, 400]),
        ("another protocol", "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\r\n\r\n".to_owned(), [400, 400]),
        (
            "a length that is not a number",
            "POST /liveEvent HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n".to_owned(),
            [400, 400],
        ),
        (
            "two lengths",
            "POST /liveEvent HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx"
                .to_owned(),
            [400, 400],
        ),
    ] {
        let mut stream = app.client().connect().unwrap();
        // The server may close the connection before the whole request is sent.
        drop(stream.write_all(request.as_bytes()));
        let answer = read_answer(&mut stream).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(statuses.contains(&answer.status), "{name}: {}", answer.status);
    }
    let mut silent = app.client().connect().unwrap();
    silent.shutdown(Shutdown::Write).unwrap();
    let mut nothing = Vec::new();
    silent.read_to_end(&mut nothing).unwrap();
    assert!(nothing.is_empty());
    wait_for("other clients to be served", || app.anonymous().get("/health").status == 200);
    assert_eq!(app.log_end(), 0);
}

#[test]
fn many_large_bodies_share_one_memory_limit() {
    let app = TestApp::start();
    assert_eq!(post(&app.client(), EVENTS, GOOD.as_bytes()).0, 200);
    let before = memory_kib(&app);
    let size = 16 * 1024 * 1024 - 1;
    let body = ["[", &" ".repeat(size - 1)].concat().into_bytes();
    let halves: Vec<_> = (0..14)
        .map(|_| {
            let mut stream = app.client().connect().unwrap();
            let head = app.client().head("POST", EVENTS, "application/json", size + 1);
            stream.write_all(head.as_bytes()).unwrap();
            // Bodies beyond the limit are refused while the client is still sending.
            drop(stream.write_all(&body));
            stream
        })
        .collect();
    let grown = memory_kib(&app).saturating_sub(before);
    assert!(grown < 128 * 1024 + GROWTH_KIB_MAX, "{grown} KiB more");
    // A small body is accepted meanwhile.
    assert_eq!(post(&app.client(), "/liveEvent", GOOD.as_bytes()).0, 200);
    let statuses: Vec<u16> = halves
        .into_iter()
        .map(|mut stream| {
            drop(stream.write_all(b" "));
            read_answer(&mut stream).unwrap().status
        })
        .collect();
    let count = |wanted: u16| statuses.iter().filter(|status| **status == wanted).count();
    assert!(count(400) >= 7 && count(503) >= 5 && count(400) + count(503) == 14, "{statuses:?}");
    // The memory is released afterwards.
    assert_eq!(post(&app.client(), EVENTS, &body).0, 400);
}

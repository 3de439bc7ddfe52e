//! Bounds on connections: those beyond wait, and none holds up the others.

use std::io::{Read, Write};

use crate::harness::http::read_answer;
use crate::harness::{Start, TestApp};

const EVENTS: &str = "/v1/streams/revenue/events";
const GOOD: &str = r#"{"userId":"u","name":"add_revenue","value":1}"#;

#[test]
fn connections_beyond_the_limit_wait_and_are_not_reset() {
    // 256 files are kept for other things, so that 44 are left for connections.
    let app = TestApp::with(Start { files_max: Some(300), ..Start::default() });
    let request = app.client().head("POST", "/liveEvent", "application/json", GOOD.len()) + GOOD;
    let mut streams: Vec<_> = (0..200)
        .map(|_| {
            let mut stream = app.client().connect().unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            stream
        })
        .collect();
    // Those that are served stay open; each that ends lets the next one in.
    for stream in &mut streams {
        assert_eq!(read_answer(stream).unwrap().status, 200);
        stream.shutdown(std::net::Shutdown::Both).unwrap();
    }
    assert_eq!(app.balance("u").as_deref(), Some("200"));
}

#[test]
fn clients_that_read_nothing_hold_up_nobody() {
    let app = TestApp::start();
    // More than all buffers between here and there hold, for more clients than may read at a time.
    let large = GOOD.replacen('{', &format!("{{\"pad\":\"{}\",", "x".repeat(900_000)), 1);
    assert_eq!(app.client().post_lines(EVENTS, &format!("{large}\n").repeat(4)).status, 200);
    let path = format!("{EVENTS}?from=0");
    let request = app.client().head("GET", &path, "text/plain", 0).repeat(20);
    let mut greedy: Vec<_> = (0..12).map(|_| app.client().connect().unwrap()).collect();
    for stream in &mut greedy {
        stream.write_all(request.as_bytes()).unwrap();
        // Its answers have begun, and are not taken.
        let mut one = [0; 12];
        stream.read_exact(&mut one).unwrap();
        assert_eq!(&one, b"HTTP/1.1 200");
    }
    assert_eq!(app.client().post(EVENTS, GOOD).status, 200);
    assert_eq!(app.client().get(&path).json()["events"].as_array().unwrap().len(), 5);
}

//! Limits on connections, memory and request rates. A client at a limit does not block the others.

use std::io::{Read, Write};

use crate::harness::http::read_answer;
use crate::harness::{Start, TestApp, wait_for};

const EVENTS: &str = "/v1/streams/revenue/events";
const GOOD: &str = r#"{"userId":"u","name":"add_revenue","value":1}"#;

#[test]
fn connections_beyond_the_limit_wait_and_are_not_reset() {
    // The server reserves 256 files for other uses, so that 44 are left for connections.
    let app = TestApp::with(Start { files_max: Some(300), ..Start::default() });
    let request = app.client().head("POST", "/liveEvent", "application/json", GOOD.len()) + GOOD;
    let mut streams: Vec<_> = (0..200)
        .map(|_| {
            let mut stream = app.client().connect().unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            stream
        })
        .collect();
    // Served connections stay open. Each one that is closed makes room for the next.
    for stream in &mut streams {
        assert_eq!(read_answer(stream).unwrap().status, 200);
        stream.shutdown(std::net::Shutdown::Both).unwrap();
    }
    assert_eq!(app.balance("u").as_deref(), Some("200"));
}

#[test]
fn idle_connections_do_not_keep_other_clients_out() {
    let app = TestApp::with(Start { files_max: Some(300), ..Start::default() });
    // More than the server has room for: some are silent, some have sent half a head, some had a response.
    let request = app.client().head("POST", "/liveEvent", "application/json", GOOD.len()) + GOOD;
    let _idle: Vec<_> = (0..60)
        .map(|index| {
            let mut stream = app.client().connect().unwrap();
            match index % 3 {
                0 if index < 40 => {
                    stream.write_all(request.as_bytes()).unwrap();
                    assert_eq!(read_answer(&mut stream).unwrap().status, 200);
                }
                1 => stream.write_all(&request.as_bytes()[..20]).unwrap(),
                _ => {}
            }
            stream
        })
        .collect();
    // The server closes one of them for the new client, before their idle time-out ends.
    assert_eq!(app.client().post("/liveEvent", GOOD).status, 200);
    assert_eq!(app.balance("u").as_deref(), Some("15"));
}

#[test]
fn a_response_being_read_is_not_cut_off_for_a_new_connection() {
    let app = TestApp::with(Start { files_max: Some(300), ..Start::default() });
    let large = GOOD.replacen('{', &format!("{{\"pad\":\"{}\",", "x".repeat(900_000)), 1);
    assert_eq!(app.client().post_lines(EVENTS, &format!("{large}\n").repeat(4)).status, 200);
    // The responses are larger than all buffers between server and client.
    let mut slow = app.client().connect().unwrap();
    let request = app.client().head("GET", &format!("{EVENTS}?from=0"), "text/plain", 0).repeat(5);
    slow.write_all(request.as_bytes()).unwrap();
    let mut first = [0; 12];
    slow.read_exact(&mut first).unwrap();
    let _idle: Vec<_> = (0..60).map(|_| app.client().connect().unwrap()).collect();
    // The server closes a connection that has been idle for long, and then serves this one.
    assert_eq!(app.client().post("/liveEvent", GOOD).status, 200);
    let (mut read, mut buffer) = (0, vec![0; 1 << 20]);
    while read < 5 * 4 * 900_000 {
        let count = slow.read(&mut buffer).unwrap();
        assert!(count > 0, "cut off after {read} bytes");
        read += count;
    }
}

#[test]
fn clients_that_read_nothing_do_not_delay_others() {
    let app = TestApp::start();
    // The responses are larger than all buffers between server and client, and there are more clients than
    // may read at a time.
    let large = GOOD.replacen('{', &format!("{{\"pad\":\"{}\",", "x".repeat(900_000)), 1);
    assert_eq!(app.client().post_lines(EVENTS, &format!("{large}\n").repeat(4)).status, 200);
    let path = format!("{EVENTS}?from=0");
    let request = app.client().head("GET", &path, "text/plain", 0).repeat(20);
    let mut greedy: Vec<_> = (0..12).map(|_| app.client().connect().unwrap()).collect();
    for stream in &mut greedy {
        stream.write_all(request.as_bytes()).unwrap();
        // Read only the beginning of the first response.
        let mut one = [0; 12];
        stream.read_exact(&mut one).unwrap();
        assert_eq!(&one, b"HTTP/1.1 200");
    }
    assert_eq!(app.client().post(EVENTS, GOOD).status, 200);
    assert_eq!(app.client().get(&path).json()["events"].as_array().unwrap().len(), 5);
}

#[test]
fn unfinished_bodies_of_senders_without_a_key_do_not_block_others() {
    let app = TestApp::configured("[source.live_event]\naccess = \"open\"\n");
    let size = 1024 * 1024;
    let body = GOOD.to_owned() + &" ".repeat(size - GOOD.len() - 1);
    let head = app.anonymous().head("POST", "/liveEvent", "application/json", size);
    // Together they exceed the memory for bodies. The last byte of each body is never sent.
    let unfinished: Vec<_> = (0..140)
        .map(|_| {
            let mut stream = app.anonymous().connect().unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            // The server may have refused and closed this connection already.
            drop(stream.write_all(body.as_bytes()));
            stream
        })
        .collect();
    let large = format!("[{GOOD}{}]", " ".repeat(12 * 1024 * 1024));
    for _ in 0..3 {
        let answer = app.client().post(EVENTS, &large);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let line = format!("{GOOD}\n").repeat(50_000);
        assert_eq!(app.client().post_lines(EVENTS, &line).status, 200);
    }
    assert_eq!(app.anonymous().post("/liveEvent", GOOD).status, 200, "a small body is always accepted");
    // Each unfinished body was refused for lack of memory, or still waits.
    let waiting = |stream: &mut std::net::TcpStream| {
        stream.set_nonblocking(true).unwrap();
        matches!(stream.peek(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    };
    let open = unfinished.into_iter().filter_map(|mut stream| waiting(&mut stream).then_some(stream)).count();
    assert!((1..=8).contains(&open), "{open} bodies of one address are unfinished");
    assert_eq!(app.balance("u").as_deref(), Some("150004"));
}

#[test]
fn large_unread_responses_share_one_memory_limit() {
    let app = TestApp::start();
    let large = GOOD.replacen('{', &format!("{{\"pad\":\"{}\",", "x".repeat(900_000)), 1);
    assert_eq!(app.client().post_lines(EVENTS, &format!("{large}\n").repeat(4)).status, 200);
    let path = format!("{EVENTS}?from=0");
    // Each client requests more than the kernel buffers for it. The server holds 35 pages of 3.6 MB at most.
    let request = app.client().head("GET", &path, "text/plain", 0).repeat(4);
    let ask = |_| {
        let mut stream = app.client().connect().unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    let greedy: Vec<_> = (0..60).map(ask).collect();
    let refused = || app.client().get(&path).status == 503;
    wait_for("a page to be refused", refused);
    assert_eq!(app.client().post(EVENTS, GOOD).status, 200, "small responses are still sent");
    let many = app.client().post(EVENTS, &format!("[{}]", vec![GOOD; 2_000].join(",")));
    assert_eq!(
        (many.status, many.body.len() > 64 << 10),
        (200, true),
        "the response about stored events is sent, however long it is"
    );
    assert_eq!(app.client().get(&path).status, 503, "there is no memory for another page");
    drop(greedy);
    wait_for("pages to be sent again", || app.client().get(&path).status == 200);
}

#[test]
fn an_address_over_its_rate_limit_gets_a_retry_after() {
    let config = "trusted_proxies = [\"127.0.0.1\", \"::1\"]\n[limits]\nper_address = \"1/m\"\n";
    let app = TestApp::configured(config);
    let from = |address: &str| app.client().with_header("X-Forwarded-For", address);
    assert_eq!(from("192.0.2.1").post("/liveEvent", GOOD).status, 200);
    for (path, shape) in [("/liveEvent", "error"), ("/userEvents/u", "error"), (EVENTS, "detail")] {
        // No byte of the body was sent: the server refuses without waiting for it.
        let head = from("192.0.2.1").head("POST", path, "application/json", GOOD.len());
        let answer = app.client().raw(head.as_bytes()).unwrap();
        assert_eq!(answer.status, 429, "{path}: {}", answer.text());
        let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&seconds), "{seconds}");
        assert!(answer.json()[shape].as_str().unwrap().contains("this address exceeds its request rate"));
    }
    // Every address has its own limit. All addresses of an IPv6 /64 share one.
    assert_eq!(from("192.0.2.2").post("/liveEvent", GOOD).status, 200);
    assert_eq!(from("2001:db8::1").post("/liveEvent", GOOD).status, 200);
    assert_eq!(from("2001:db8::2").post("/liveEvent", GOOD).status, 429);
    assert_eq!(from("2001:db8:0:1::1").post("/liveEvent", GOOD).status, 200);
    for path in ["/health", "/ready", "/metrics"] {
        (0..3).for_each(|_| assert_eq!(from("192.0.2.1").get(path).status, 200, "{path}"));
    }
    assert_eq!(app.log_end(), 4);
}

#[test]
fn a_key_over_its_rate_limit_is_refused_in_every_header() {
    let app = TestApp::configured("[limits]\nper_key = \"1/m\"\n");
    assert_eq!(app.client().post("/liveEvent", GOOD).status, 200);
    let bearer = app.anonymous().with_header("Authorization", &format!("Bearer {}", app.key()));
    for client in [app.client(), bearer, app.anonymous().with_header("X-API-Key", &app.key())] {
        let answer = client.post(EVENTS, GOOD);
        assert_eq!(answer.status, 429, "{}", answer.text());
        assert_eq!(answer.json()["type"], "urn:millrace:problem:too-many-requests");
        assert_eq!(client.get("/userEvents/u").status, 429);
    }
    // An unknown key has no limit of its own, so it is refused as unauthorized every time.
    let other = app.anonymous().with_header("X-API-Key", "unknown");
    (0..3).for_each(|_| assert_eq!(other.post("/liveEvent", GOOD).status, 401));
    assert_eq!(app.log_end(), 1);
}

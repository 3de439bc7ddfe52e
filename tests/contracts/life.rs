//! A server's life as its operator sees it: the log, health and metrics, and the end.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::http::read_answer;
use crate::harness::{TestApp, wait_for};

const EVENTS: &str = "/v1/streams/revenue/events";

fn event(user: &str, value: &str) -> String {
    format!(r#"{{"userId":"{user}","name":"add_revenue","value":{value}}}"#)
}

fn terminate(app: &TestApp) {
    Command::new("kill").args(["-TERM", &app.pid().to_string()]).status().unwrap();
}

fn send(app: &TestApp, body: &str) {
    let answer = app.client().post("/liveEvent", body);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn a_life_is_told_in_the_log_a_line_a_step() {
    let mut app = TestApp::start();
    send(&app, &event("somebody", "1.2345"));
    app.client().post("/liveEvent", "{}");
    app.settle();
    assert_eq!(app.stop(), Some(0));
    let log = app.log_text();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let mut messages: Vec<&str> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
    // A line for each view.
    messages.dedup();
    let steps = [
        "millrace starts",
        "data folder made",
        "log is open",
        "store is open",
        "view runs",
        "listening",
        "stopping: no new connections, requests under way are finished",
        "views have applied everything",
        "millrace has stopped",
    ];
    assert_eq!(messages, steps);
    assert!(lines.iter().all(|line| line["level"] == "INFO" && line["timestamp"].is_string()));
    assert!(!log.contains("somebody") && !log.contains("1.2345"), "a payload in the log");
    app.restart();
    let opened = app.log_line("log is open").unwrap();
    assert_eq!(
        (&opened["events"], &opened["new"], &opened["clean"]),
        (&json!(1), &json!(false), &json!(true))
    );
    app.restart();
    assert_eq!(app.log_line("log is open").unwrap()["clean"], false, "it was killed");
}

#[test]
fn a_request_under_way_is_answered_before_the_end() {
    let mut app = TestApp::start();
    let body = event("u", "1");
    let mut stream = app.client().connect().unwrap();
    stream
        .write_all(app.client().head("POST", "/liveEvent", "application/json", body.len()).as_bytes())
        .unwrap();
    stream.write_all(&body.as_bytes()[..10]).unwrap();
    // An answer on a connection that came later says that this one has been accepted as well.
    assert_eq!(app.stranger().get("/health").status, 200);
    terminate(&app);
    wait_for("the order to be heard", || app.log_text().contains("stopping:"));
    wait_for("no new connections", || app.stranger().try_request("GET", "/health", None).is_err());
    stream.write_all(&body.as_bytes()[10..]).unwrap();
    let answer = read_answer(&mut stream).unwrap();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert_eq!(app.ended(), Some(0));
    app.restart();
    assert_eq!(app.balance("u").as_deref(), Some("1"));
}

#[test]
fn a_terminal_that_is_closed_does_not_end_the_server() {
    let app = TestApp::start();
    for _ in 0..3 {
        app.signal("-HUP");
        assert_eq!(app.client().post("/liveEvent", &event("u", "1")).status, 200);
    }
    wait_for("the signal", || app.log_line("SIGHUP: reading certificate and password file again").is_some());
    assert_eq!(app.balance("u").as_deref(), Some("3"));
}

/// Whether their connections had a request before, or had not even been accepted.
#[test]
fn requests_that_are_here_before_the_order_to_stop_are_answered() {
    let mut app = TestApp::start();
    let body = event("u", "1");
    let request = app.client().head("POST", "/liveEvent", "application/json", body.len()) + &body;
    let ask = |stream: &mut std::net::TcpStream| stream.write_all(request.as_bytes()).unwrap();
    let connect = |_| app.client().connect().unwrap();
    let mut streams: Vec<_> = (0..20).map(connect).collect();
    for stream in &mut streams {
        ask(stream);
        assert_eq!(read_answer(stream).unwrap().status, 200);
    }
    app.signal("-STOP");
    streams.extend((0..10).map(connect));
    streams.iter_mut().for_each(ask);
    terminate(&app);
    app.signal("-CONT");
    for stream in &mut streams {
        assert_eq!(read_answer(stream).unwrap().status, 200);
    }
    assert_eq!(app.ended(), Some(0));
    app.restart();
    assert_eq!(app.balance("u").as_deref(), Some("50"));
}

#[test]
fn a_client_whose_lines_are_cut_off_by_a_stop_learns_how_many_are_stored() {
    let mut app = TestApp::start();
    let head = app.client().head("POST", EVENTS, "application/x-ndjson", 1 << 30);
    let mut stream = app.client().connect().unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let lines = (event("u", "1") + "\n").repeat(100_000);
    stream.write_all(lines.as_bytes()).unwrap();
    wait_for("some of them", || app.log_end() > 0);
    terminate(&app);
    let answer = read_answer(&mut stream).unwrap();
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("retry-after").is_some() && answer.text().contains("problem:stopping"));
    let durable = answer.json()["durableLines"].as_u64().unwrap();
    assert_eq!(app.ended(), Some(0));
    app.restart();
    assert_eq!(app.log_end(), durable);
    assert_eq!(app.balance("u"), Some(durable.to_string()));
}

#[test]
fn a_second_signal_ends_a_stop_at_once_and_loses_nothing() {
    let mut app = TestApp::start();
    send(&app, &event("u", "1"));
    let mut stream = app.client().connect().unwrap();
    stream.write_all(app.client().head("POST", "/liveEvent", "application/json", 100).as_bytes()).unwrap();
    assert_eq!(app.stranger().get("/health").status, 200);
    terminate(&app);
    wait_for("the order to be heard", || app.log_text().contains("stopping:"));
    let asked = std::time::Instant::now();
    terminate(&app);
    assert_eq!(app.ended(), Some(1));
    assert!(asked.elapsed().as_secs() < 5, "{:?}", asked.elapsed());
    wait_for("the last line", || app.log_text().contains("asked again while stopping"));
    app.restart();
    assert_eq!(app.balance("u").as_deref(), Some("1"));
}

#[test]
fn a_stop_under_load_loses_nothing_that_was_acknowledged() {
    let mut app = TestApp::start();
    let sender = |number: usize| {
        let (client, body) = (app.client(), event(&format!("u{number}"), "1"));
        move || {
            let mut sent = 0_u64;
            while let Ok(answer) =
                client.try_request("POST", "/liveEvent", Some(("application/json", body.as_bytes())))
            {
                assert!([200, 503].contains(&answer.status), "{}", answer.text());
                sent += u64::from(answer.status == 200);
            }
            sent
        }
    };
    let threads: Vec<_> = (0..4).map(|number| std::thread::spawn(sender(number))).collect();
    wait_for("a few hundred events", || app.log_end() > 200);
    assert_eq!(app.stop(), Some(0));
    let sent: Vec<u64> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    app.restart();
    // A clean end answers what it takes: nothing is stored that was not acknowledged.
    assert_eq!(app.log_end(), sent.iter().sum::<u64>());
    for (number, sent) in sent.iter().enumerate() {
        assert_eq!(app.balance(&format!("u{number}")).unwrap_or("0".to_owned()), sent.to_string());
    }
}

/// Prometheus text: every line a comment, or a name with labels and a number.
pub fn samples(text: &str) -> BTreeMap<String, f64> {
    let sample = |line: &str| {
        let (name, number) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        let bare = name.split('{').next().unwrap();
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        assert!(!bare.is_empty() && bare.chars().all(valid), "{line}");
        assert!(name.contains('{') == name.ends_with('}'), "{line}");
        (name.to_owned(), number.parse().unwrap_or_else(|_| panic!("no number: {line}")))
    };
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(sample).collect()
}

#[test]
fn health_readiness_and_metrics_tell_what_happens() {
    let app = TestApp::start();
    assert_eq!(app.stranger().get("/health").json(), json!({ "status": "OK" }));
    // Before the first event there is nothing, and that is no trouble.
    assert_eq!(app.client().get("/v1/views/revenue/balances").json(), json!({ "balances": [] }));
    let compared = app.client().post("/v1/views/revenue/reconcile", "").json();
    assert_eq!((&compared["keys"], &compared["differenceCount"]), (&json!(0), &json!(0)));
    let ready = app.stranger().get("/ready");
    assert_eq!((ready.status, &ready.json()["status"]), (200, &json!("ready")));
    assert_eq!(app.stranger().get("/metrics").status, 401);
    let read = || {
        let answer = app.client().get("/metrics");
        assert!(answer.header("content-type").unwrap().starts_with("text/plain"));
        samples(&answer.text())
    };
    let before = read();
    send(&app, &event("u", "1"));
    app.client().post_lines(EVENTS, &(event("u", "1") + "\n").repeat(5));
    app.client().post("/liveEvent", "{}");
    app.stranger().post("/liveEvent", "{}");
    for _ in 0..2 {
        app.client().post(EVENTS, r#"{"id":"1","userId":"u","name":"add_revenue","value":1}"#);
    }
    app.settle();
    let after = read();
    for (name, moved) in [
        (r#"millrace_accepted_total{stream="revenue"}"#, 8.0),
        (r#"millrace_refused_total{code="invalid-event"}"#, 1.0),
        ("millrace_repeats_total", 1.0),
        ("millrace_log_end", 8.0),
    ] {
        let was = before.get(name).copied().unwrap_or(0.0);
        assert_eq!(after.get(name).map(|value| value - was), Some(moved), "{name} in {after:?}");
    }
    assert!(after[r#"millrace_refused_total{code="unauthorized"}"#] >= 2.0);
    assert_eq!(after[r#"millrace_view_lag{view="revenue"}"#], 0.0);
    assert_eq!(after[r#"millrace_view_paused{view="revenue"}"#], 0.0);
    assert_eq!(after["millrace_dead_letters_open"], 0.0);
    assert!(after["millrace_log_bytes"] > before["millrace_log_bytes"]);
    let syncs = after["millrace_log_sync_seconds_count"];
    assert!(
        (1.0..=8.0).contains(&syncs),
        "one for each request that was taken, or for some of them: {syncs}"
    );
    assert!(after["millrace_log_sync_seconds_sum"] > 0.0);
    assert_eq!(after[r#"millrace_log_sync_seconds_bucket{le="+Inf"}"#], syncs);
}

#[test]
fn open_connections_are_counted() {
    let app = TestApp::start();
    let read = || samples(&app.client().get("/metrics").text());
    let before = read();
    assert!(before["millrace_connections"] < before["millrace_connections_max"]);
    let held: Vec<_> = (0..3).map(|_| app.stranger().connect().unwrap()).collect();
    let more = || read()["millrace_connections"] - before["millrace_connections"];
    // One of before may have been about to end.
    wait_for("more are counted", || more() >= 2.0);
    drop(held);
    wait_for("they are not counted any more", || more() <= 0.0);
}

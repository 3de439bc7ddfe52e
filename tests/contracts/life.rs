//! A run of the server as its operator sees it: log lines, health, metrics, and the stop.

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
fn each_step_of_a_run_is_one_log_line() {
    let mut app = TestApp::start();
    send(&app, &event("somebody", "1.2345"));
    app.client().post("/liveEvent", "{}");
    app.settle();
    assert_eq!(app.stop(), Some(0));
    let log = app.log_text();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let mut messages: Vec<&str> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
    // "view runs" is logged once for each view, and "source runs" for each source.
    messages.dedup();
    let steps = [
        "millrace starts",
        "data folder created",
        "log is open",
        "store is open",
        "view runs",
        "source runs",
        "listening",
        "stopping: no new connections; waiting for pending requests",
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
    assert_eq!(app.log_line("log is open").unwrap()["clean"], false, "the server was killed");
}

#[test]
fn a_request_in_progress_is_answered_before_the_server_stops() {
    let mut app = TestApp::start();
    let body = event("u", "1");
    let mut stream = app.client().connect().unwrap();
    stream
        .write_all(app.client().head("POST", "/liveEvent", "application/json", body.len()).as_bytes())
        .unwrap();
    stream.write_all(&body.as_bytes()[..10]).unwrap();
    // Connections are accepted in order, so this answer shows that the earlier one has been accepted too.
    assert_eq!(app.anonymous().get("/health").status, 200);
    terminate(&app);
    wait_for("the stop to begin", || app.log_text().contains("stopping:"));
    wait_for("no new connections", || app.anonymous().try_request("GET", "/health", None).is_err());
    stream.write_all(&body.as_bytes()[10..]).unwrap();
    let answer = read_answer(&mut stream).unwrap();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert_eq!(app.wait_for_exit(), Some(0));
    app.restart();
    assert_eq!(app.balance("u").as_deref(), Some("1"));
}

#[test]
fn a_sighup_does_not_stop_the_server() {
    let app = TestApp::start();
    for _ in 0..3 {
        app.signal("-HUP");
        assert_eq!(app.client().post("/liveEvent", &event("u", "1")).status, 200);
    }
    wait_for("the signal", || app.log_line("SIGHUP: reading certificate and password file again").is_some());
    assert_eq!(app.balance("u").as_deref(), Some("3"));
}

/// Some of the connections had a request before; others are not accepted yet when the signal arrives.
#[test]
fn requests_sent_before_a_stop_signal_are_answered() {
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
    assert_eq!(app.wait_for_exit(), Some(0));
    app.restart();
    assert_eq!(app.balance("u").as_deref(), Some("50"));
}

#[test]
fn a_stop_while_lines_arrive_reports_how_many_are_durable() {
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
    assert_eq!(app.wait_for_exit(), Some(0));
    app.restart();
    assert_eq!(app.log_end(), durable);
    assert_eq!(app.balance("u"), Some(durable.to_string()));
}

#[test]
fn a_second_signal_stops_the_server_at_once_and_loses_nothing() {
    let mut app = TestApp::start();
    send(&app, &event("u", "1"));
    let mut stream = app.client().connect().unwrap();
    stream.write_all(app.client().head("POST", "/liveEvent", "application/json", 100).as_bytes()).unwrap();
    assert_eq!(app.anonymous().get("/health").status, 200);
    terminate(&app);
    wait_for("the stop to begin", || app.log_text().contains("stopping:"));
    let asked = std::time::Instant::now();
    terminate(&app);
    assert_eq!(app.wait_for_exit(), Some(1));
    assert!(asked.elapsed().as_secs() < 5, "{:?}", asked.elapsed());
    wait_for("the last line", || app.log_text().contains("second signal while stopping"));
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
    // A clean stop answers every accepted request, so that the log contains only acknowledged events.
    assert_eq!(app.log_end(), sent.iter().sum::<u64>());
    for (number, sent) in sent.iter().enumerate() {
        assert_eq!(app.balance(&format!("u{number}")).unwrap_or("0".to_owned()), sent.to_string());
    }
}

/// Parses Prometheus text: every line is a comment, or a name with labels and a number.
pub fn samples(text: &str) -> BTreeMap<String, f64> {
    let sample = |line: &str| {
        let (name, number) = line.rsplit_once(' ').unwrap_or_else(|| panic!("not a sample: {line}"));
        let bare = name.split('{').next().unwrap();
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        assert!(!bare.is_empty() && bare.chars().all(valid), "{line}");
        assert!(name.contains('{') == name.ends_with('}'), "{line}");
        (name.to_owned(), number.parse().unwrap_or_else(|_| panic!("not a number: {line}")))
    };
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(sample).collect()
}

#[test]
fn health_readiness_and_metrics_show_the_state_of_the_server() {
    let app = TestApp::start();
    assert_eq!(app.anonymous().get("/health").json(), json!({ "status": "OK" }));
    // Reads and comparisons work before the first event.
    assert_eq!(app.client().get("/v1/views/revenue/balances").json(), json!({ "balances": [] }));
    let compared = app.client().post("/v1/views/revenue/reconcile", "").json();
    assert_eq!((&compared["keys"], &compared["differenceCount"]), (&json!(0), &json!(0)));
    let ready = app.anonymous().get("/ready");
    assert_eq!((ready.status, &ready.json()["status"]), (200, &json!("ready")));
    assert_eq!(app.anonymous().get("/metrics").status, 401);
    let read = || {
        let answer = app.client().get("/metrics");
        assert!(answer.header("content-type").unwrap().starts_with("text/plain"));
        samples(&answer.text())
    };
    let before = read();
    send(&app, &event("u", "1"));
    app.client().post_lines(EVENTS, &(event("u", "1") + "\n").repeat(5));
    app.client().post("/liveEvent", "{}");
    app.anonymous().post("/liveEvent", "{}");
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
    assert!((1.0..=8.0).contains(&syncs), "at most one sync per accepted request: {syncs}");
    assert!(after["millrace_log_sync_seconds_sum"] > 0.0);
    assert_eq!(after[r#"millrace_log_sync_seconds_bucket{le="+Inf"}"#], syncs);
}

#[test]
fn open_connections_are_counted() {
    let app = TestApp::start();
    let read = || samples(&app.client().get("/metrics").text());
    let before = read();
    assert!(before["millrace_connections"] < before["millrace_connections_max"]);
    let idle: Vec<_> = (0..3).map(|_| app.anonymous().connect().unwrap()).collect();
    let more = || read()["millrace_connections"] - before["millrace_connections"];
    // An earlier connection may have been counted that has closed since.
    wait_for("more are counted", || more() >= 2.0);
    drop(idle);
    wait_for("they are not counted any more", || more() <= 0.0);
}

//! `traceparent`: every source stores it with the events of a request. Events and receipts show it, and log
//! lines about an event contain it.

use serde_json::Value;

use crate::harness::{Start, TestApp, wait_for};

const EVENTS: &str = "/v1/streams/revenue/events";
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn event(user: &str, value: &str) -> String {
    format!(r#"{{"userId":"{user}","name":"add_revenue","value":{value}}}"#)
}

/// Waits until the server has logged `message` at least `count` times, and returns these lines.
///
/// The log arrives through a pipe, and so later than the response.
fn lines_with_message(app: &TestApp, message: &str, count: usize) -> Vec<Value> {
    let found = || {
        let text = app.log_text();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["message"] == message).collect::<Vec<_>>()
    };
    wait_for(message, || found().len() >= count);
    found()
}

#[test]
fn a_trace_is_stored_and_shown_for_every_source() {
    let app = TestApp::with(Start {
        arguments: vec!["--log-level".to_owned(), "debug".to_owned()],
        ..Start::default()
    });
    let traced = app.client().with_header("Traceparent", TRACE);
    let one = event("u", "1");
    assert_eq!(traced.post("/liveEvent", &one).status, 200);
    assert_eq!(traced.post(EVENTS, &one).status, 200);
    assert_eq!(traced.post(EVENTS, &format!("[{one},{one}]")).status, 200);
    assert_eq!(traced.post_lines(EVENTS, &format!("{one}\n{one}\n")).status, 200);
    let broken = app.client().with_header("Traceparent", &TRACE.replacen("00", "ff", 1));
    assert_eq!(broken.post("/liveEvent", &one).status, 200);
    assert_eq!(app.client().post("/liveEvent", &one).status, 200);

    let page = app.client().get(&format!("{EVENTS}?from=0")).json();
    let events = page["events"].as_array().unwrap();
    assert_eq!(events.len(), 8);
    for (position, shown) in events.iter().enumerate() {
        let receipt = app.client().get(&format!("/v1/events/{}", shown["id"].as_str().unwrap())).json();
        let kept = (position < 6).then_some(TRACE);
        assert_eq!(shown.get("traceparent").map(|trace| trace.as_str().unwrap()), kept, "{shown}");
        assert_eq!(receipt.get("traceparent"), shown.get("traceparent"));
    }
    let accepted = lines_with_message(&app, "accepted", 6);
    let logged = |position: u64| accepted.iter().find(|line| line["position"] == position).unwrap();
    assert_eq!((&logged(2)["traceparent"], &logged(2)["events"]), (&Value::from(TRACE), &Value::from(2)));
    assert_eq!(logged(7).get("traceparent"), None);
    assert!(!app.log_text().contains("userId"), "no payload in the log");
}

#[test]
fn the_log_shows_the_trace_of_a_dead_letter() {
    let app = TestApp::start();
    let traced = app.client().with_header("traceparent", TRACE);
    let bad = event("bad", "1");
    assert_eq!(app.client().post("/liveEvent", &bad).status, 200);
    app.settle();
    app.stored.refuse("users_revenue", "user_id", "bad");
    assert_eq!(traced.post("/liveEvent", &bad).status, 200);
    app.settle();
    // Lines that reuse an idempotency key become dead letters of the dedup stage.
    let keyed = traced.with_header("Idempotency-Key", "reused");
    let line = event("u", "1");
    assert_eq!(keyed.post_lines(EVENTS, &format!("{line}\n")).status, 200);
    assert_eq!(keyed.post_lines(EVENTS, &format!("{line}\n").repeat(20)).status, 200);
    app.settle();
    let dead_letters = app.client().get("/v1/dead-letters?status=open").json();
    let dead_letters = dead_letters["deadLetters"].as_array().unwrap();
    assert_eq!(dead_letters.len(), 1 + 20);
    let logged = lines_with_message(&app, "an event became a dead letter", 1 + 16);
    // The log names the first 16 of a batch and counts the rest.
    assert_eq!(logged.len(), 1 + 16);
    for line in &logged {
        assert_eq!(line["traceparent"], TRACE);
        let dead_letter =
            dead_letters.iter().find(|dead_letter| dead_letter["id"] == line["dead_letter"]).unwrap();
        assert_eq!((&dead_letter["view"], &dead_letter["position"]), (&line["view"], &line["position"]));
    }
    let more = lines_with_message(&app, "more events became dead letters", 1);
    assert_eq!((more.len(), &more[0]["view"], &more[0]["more"]), (1, &Value::from("dedup"), &Value::from(4)));
}

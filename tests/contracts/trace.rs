//! `traceparent`: kept with the events of its request at every door, shown with them, named in the log where
//! it concerns one event.

use serde_json::Value;

use crate::harness::{Start, TestApp, wait_for};

const EVENTS: &str = "/v1/streams/revenue/events";
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn event(user: &str, value: &str) -> String {
    format!(r#"{{"userId":"{user}","name":"add_revenue","value":{value}}}"#)
}

/// The log comes by a pipe: `count` lines of it are waited for.
fn lines_saying(app: &TestApp, message: &str, count: usize) -> Vec<Value> {
    let said = || {
        let text = app.log_text();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["message"] == message).collect::<Vec<_>>()
    };
    wait_for(message, || said().len() >= count);
    said()
}

#[test]
fn a_trace_is_kept_and_shown_whichever_door_it_came_by() {
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
    let accepted = lines_saying(&app, "accepted", 6);
    let told = |position: u64| accepted.iter().find(|line| line["position"] == position).unwrap();
    assert_eq!((&told(2)["traceparent"], &told(2)["events"]), (&Value::from(TRACE), &Value::from(2)));
    assert_eq!(told(7).get("traceparent"), None);
    assert!(!app.log_text().contains("userId"), "no payload in the log");
}

#[test]
fn the_log_names_the_trace_of_what_became_a_dead_letter() {
    let app = TestApp::start();
    let traced = app.client().with_header("traceparent", TRACE);
    let bad = event("bad", "1");
    assert_eq!(app.client().post("/liveEvent", &bad).status, 200);
    app.settle();
    app.stored.refuse("users_revenue", "user_id", "bad");
    assert_eq!(traced.post("/liveEvent", &bad).status, 200);
    app.settle();
    // Lines under a key that was used for others are the gate's affair.
    let keyed = traced.with_header("Idempotency-Key", "reused");
    let line = event("u", "1");
    assert_eq!(keyed.post_lines(EVENTS, &format!("{line}\n")).status, 200);
    assert_eq!(keyed.post_lines(EVENTS, &format!("{line}\n").repeat(20)).status, 200);
    app.settle();
    let letters = app.client().get("/v1/dead-letters?status=open").json();
    let letters = letters["deadLetters"].as_array().unwrap();
    assert_eq!(letters.len(), 1 + 20);
    let told = lines_saying(&app, "an event became a dead letter", 1 + 16);
    // Of very many, the log names a few and counts the rest.
    assert_eq!(told.len(), 1 + 16);
    for line in &told {
        assert_eq!(line["traceparent"], TRACE);
        let letter = letters.iter().find(|letter| letter["id"] == line["letter"]).unwrap();
        assert_eq!((&letter["view"], &letter["position"]), (&line["view"], &line["position"]));
    }
    let more = lines_saying(&app, "more events became dead letters", 1);
    assert_eq!((more.len(), &more[0]["view"], &more[0]["more"]), (1, &Value::from("dedup"), &Value::from(4)));
}

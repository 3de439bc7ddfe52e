//! `millrace event`: receipts, and events that are undone.

use serde_json::Value;

use crate::harness::TestApp;
use crate::{failed, lines_of_json, run};

const EVENTS: &str = "/v1/streams/revenue/events";

fn sent(app: &TestApp, id: &str, value: u32) -> String {
    let event = format!(r#"{{"id":"{id}","userId":"u","name":"add_revenue","value":{value}}}"#);
    let answer = app.client().post(EVENTS, &event);
    app.settle();
    answer.json()["eventId"].as_str().unwrap().to_owned()
}

#[test]
fn a_receipt_shows_the_event_and_its_views() {
    let app = TestApp::start();
    let id = sent(&app, "order-7", 10);
    let shown = run(&app, &["event", "show", &id]);
    for part in
        [&format!("id        {id}\n"), "stream    revenue\n", "view      revenue: applied\n", "\"value\":10}"]
    {
        assert!(shown.contains(part), "{shown}");
    }
    let json: Value = serde_json::from_str(&run(&app, &["event", "show", &id, "--json"])).unwrap();
    assert_eq!((&json["id"], &json["views"]["revenue"]["state"]), (&id.into(), &"applied".into()));
    failed(&app, 5, &["event", "show", "00000000-0000-5000-8000-000000000000"]);
}

#[test]
fn the_receipt_of_a_reused_id_shows_its_dead_letter() {
    let app = TestApp::start();
    sent(&app, "order-7", 10);
    let line = r#"{"id":"order-7","userId":"u","name":"add_revenue","value":11}"#;
    assert_eq!(app.client().post_lines(EVENTS, line).status, 200);
    app.settle();
    let letters = app.client().get("/v1/dead-letters").json();
    let letter = &letters["deadLetters"][0];
    let shown = run(&app, &["event", "show", letter["eventId"].as_str().unwrap()]);
    let expected = format!("dead letter  {}, open: ", letter["id"].as_str().unwrap());
    assert!(shown.contains(&expected), "{shown}");
}

#[test]
fn an_event_is_taken_back_by_either_of_its_ids() {
    let app = TestApp::start();
    let first = sent(&app, "order-7", 10);
    sent(&app, "order-8", 20);
    let text = run(&app, &["event", "take-back", &first, "--reason", "cancelled \"today\""]);
    assert!(text.starts_with(&format!("event {first} is undone; the correction ")), "{text}");
    app.settle();
    assert_eq!(run(&app, &["view", "balance", "revenue", "u"]), "20\n");
    assert!(run(&app, &["event", "show", &first]).contains("taken back by  "));
    assert!(failed(&app, 1, &["event", "take-back", &first]).contains("was undone before"));

    let answer = run(&app, &["event", "take-back", "order-8", "--stream", "revenue", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&answer).unwrap()["accepted"], 1);
    app.settle();
    assert_eq!(run(&app, &["view", "balance", "revenue", "u"]), "0\n");
    let unknown = failed(&app, 1, &["event", "take-back", "order-9", "--stream", "revenue"]);
    assert!(unknown.contains("order-9"), "{unknown}");
    assert!(failed(&app, 5, &["event", "take-back", "order-8", "--stream", "sales"]).contains("`revenue`"));
}

#[test]
fn tail_marks_repeats_and_corrections() {
    let app = TestApp::start();
    for _ in 0..2 {
        sent(&app, "order-7", 10);
    }
    let other = sent(&app, "order-8", 20);
    run(&app, &["event", "take-back", &other]);
    app.settle();
    let text = run(&app, &["tail", "revenue"]);
    let marks: Vec<Option<&str>> = text
        .lines()
        .map(|line| line.split_once('[').and_then(|(_, rest)| Some(rest.split_once("] {")?.0)))
        .collect();
    assert_eq!(marks, [None, Some("repeat"), Some("taken back"), Some("correction")], "{text}");
    let json = lines_of_json(&run(&app, &["tail", "revenue", "--json"]));
    assert_eq!(json[1]["leftOut"], "repeat");
}

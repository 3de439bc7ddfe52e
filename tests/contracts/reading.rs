//! Reads return pages, and every page is bounded, whatever limit the client asks for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::TestApp;

const EVENTS: &str = "/v1/streams/revenue/events";
const GOOD: &str = r#"{"userId":"u","name":"add_revenue","value":1}"#;
const OTHER: &str = "[stream.other]\nkey = \"k\"\nfields.k = { type = \"text\", required = true }\n";

fn large(event: &str, count: usize) -> String {
    let event = event.replacen('{', &format!("{{\"pad\":\"{}\",", "x".repeat(900_000)), 1);
    format!("{event}\n").repeat(count)
}

fn ids(page: &Value) -> Vec<String> {
    let dead_letters = page["deadLetters"].as_array().unwrap();
    dead_letters.iter().map(|dead_letter| dead_letter["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_limit_of_zero_returns_one_item() {
    let app = TestApp::start();
    assert_eq!(app.client().post(EVENTS, &format!("[{GOOD},{GOOD}]")).status, 200);
    let page = app.client().get(&format!("{EVENTS}?from=0&limit=0")).json();
    assert_eq!((page["events"].as_array().unwrap().len(), &page["next"]), (1, &Value::from(1)));
    app.settle();
    let page = app.client().get("/v1/views/revenue/balances?limit=0").json();
    assert_eq!(page["balances"].as_array().unwrap().len(), 1);
}

#[test]
fn a_tail_limits_the_bytes_of_a_page_and_of_its_search() {
    let app = TestApp::configured(OTHER);
    let send = |path: &str, lines: &str| assert_eq!(app.client().post_lines(path, lines).status, 200);
    send("/v1/streams/other/events", &large(r#"{"k":"a"}"#, 24));
    send(EVENTS, &large(GOOD, 6));
    // The search stops after a bounded number of bytes, so that the answer comes before the 30 s are over.
    let asked = Instant::now();
    let page = app.client().get(&format!("{EVENTS}?from=0&wait=30")).json();
    assert!(asked.elapsed() < Duration::from_secs(20));
    let next = page["next"].as_u64().unwrap();
    assert!(page["events"].as_array().unwrap().is_empty() && (15..24).contains(&next), "{next}");
    let page = app.client().get(&format!("{EVENTS}?from={next}")).json();
    assert_eq!((page["events"].as_array().unwrap().len(), &page["next"]), (4, &Value::from(28)));
    let shown = app.command(&["tail", "revenue", "--json", "--from", "0"]);
    assert_eq!(String::from_utf8_lossy(&shown.stdout).lines().count(), 6);
}

#[test]
fn a_waiting_tail_returns_although_another_stream_keeps_growing() {
    let app = TestApp::configured(OTHER);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (others, done) = (app.client(), &done);
        scope.spawn(move || {
            let begun = Instant::now();
            while !done.load(Ordering::Relaxed) && begun.elapsed() < Duration::from_secs(20) {
                assert_eq!(others.post("/v1/streams/other/events", r#"{"k":"a"}"#).status, 200);
            }
        });
        let asked = Instant::now();
        let page = app.client().get(&format!("{EVENTS}?from=0&wait=1")).json();
        assert!(asked.elapsed() < Duration::from_secs(10), "{page}");
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_page_of_dead_letters_is_limited_by_bytes() {
    let app = TestApp::start();
    app.sql("CREATE TABLE users_revenue (user_id {key} PRIMARY KEY, revenue {amount} NOT NULL)");
    app.stored.refuse("users_revenue", "user_id", "u");
    assert_eq!(app.client().post_lines(&format!("{EVENTS}?wait=applied"), &large(GOOD, 6)).status, 200);
    let first = app.client().get("/v1/dead-letters").json();
    assert_eq!((ids(&first).len(), &first["more"]), (4, &Value::from(true)));
    let rest = app.client().get(&format!("/v1/dead-letters?after={}", ids(&first)[3])).json();
    assert_eq!((ids(&rest).len(), &rest["more"]), (2, &Value::from(false)));
    assert_eq!(ids(&app.client().get("/v1/dead-letters?limit=0").json()).len(), 1);
    let listed = app.command(&["dead-letter", "list", "--json"]);
    assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().count(), 6);
}

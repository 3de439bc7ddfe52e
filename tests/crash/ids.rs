//! The ids that clients gave: known for as long as the gate's window is, however quiet a server's life.

use crate::failpoints::{abort, set};
use crate::harness::{TestApp, wait_for};
use crate::kills::start;

/// The gate looks for ids that it may forget, and how long it waits between two looks.
pub const FORGETS: &str = "gate.forgets";
pub const PAUSE_BEFORE_FORGETTING: &str = "gate.pause_before_forgetting";

fn send(app: &TestApp, id: &str) {
    let body = format!(r#"{{"id":"{id}","userId":"u","name":"add_revenue","value":1}}"#);
    let answer = app.client().post("/v1/streams/revenue/events?wait=applied", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn ids_are_known_after_a_start_that_reads_no_event() {
    let mut app = TestApp::with(start(""));
    send(&app, "first");
    assert_eq!(app.stop(), Some(0));
    // Gone at its third look, so that two have been.
    set(&mut app, &format!("{PAUSE_BEFORE_FORGETTING}=skip;{}", abort(FORGETS, 3))).unwrap();
    wait_for("two looks for what may be forgotten", || app.is_gone());
    assert!(!app.log_text().contains("panicked"), "{}", app.log_text());
    set(&mut app, "").unwrap();
    send(&app, "first");
    assert_eq!(app.balance("u").as_deref(), Some("1"));
}

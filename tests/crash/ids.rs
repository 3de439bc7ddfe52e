//! Ids from clients are known for the dedup window, even if a server reads no event between two starts.

use crate::failpoints::{abort, set};
use crate::harness::{TestApp, wait_for};
use crate::kills::start;

/// The failpoint at which dedup prunes expired ids, and the one that skips the wait between two prunes.
pub const DEDUP_PRUNE: &str = "dedup.forgets";
pub const DEDUP_PRUNE_PAUSE: &str = "dedup.pause_before_forgetting";

fn send(app: &TestApp, id: &str) {
    let body = format!(r#"{{"id":"{id}","userId":"u","name":"add_revenue","value":1}}"#);
    let answer = app.client().post("/v1/streams/revenue/events?wait=applied", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn ids_are_still_known_after_a_start_that_reads_no_event() {
    let mut app = TestApp::with(start(""));
    send(&app, "first");
    assert_eq!(app.stop(), Some(0));
    // The process ends at the third prune, so that two are complete.
    set(&mut app, &format!("{DEDUP_PRUNE_PAUSE}=skip;{}", abort(DEDUP_PRUNE, 3))).unwrap();
    wait_for("two prunes", || app.is_gone());
    assert!(!app.log_text().contains("panicked"), "{}", app.log_text());
    set(&mut app, "").unwrap();
    send(&app, "first");
    assert_eq!(app.balance("u").as_deref(), Some("1"));
}

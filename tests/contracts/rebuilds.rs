//! Rebuilds while retention or an erasure changes the log. A rebuild may only replace the view with the
//! result of all the events that the view was made from.

use std::thread;

use serde_json::json;

use crate::harness::{Start, TestApp, wait_for};

const APPLIED: &str = "/v1/streams/revenue/events?wait=applied";
const REBUILD: &str = "/v1/views/revenue/rebuild";

/// Starts a server that waits 3 s before each batch of a rebuild, so that a test can act before the batch.
fn slow() -> TestApp {
    let environment = vec![("MILLRACE_FAILPOINTS".to_owned(), "rebuild.batch=sleep:3000".to_owned())];
    TestApp::with(Start { environment, ..Start::default() })
}

fn send(app: &TestApp, user: &str, note: &str) {
    let body = json!({ "userId": user, "name": "add_revenue", "value": 5, "note": note }).to_string();
    let answer = app.client().post(APPLIED, &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn a_rebuild_fails_if_retention_deletes_events_meanwhile() {
    let app = slow();
    send(&app, "u", "");
    thread::scope(|scope| {
        let client = app.client();
        let rebuild = scope.spawn(move || client.post(REBUILD, ""));
        let shadow = "SELECT count(*) FROM millrace_positions WHERE view = 'revenue~shadow'";
        wait_for("the rebuild to start", || app.sql(shadow) == "1");
        // The first step of retention is this note.
        let note = "INSERT INTO millrace_retained (stream, log_id, part, position, blanked) \
                    SELECT 'revenue', log_id, 0, 1, 0 FROM millrace_positions WHERE view = 'revenue'";
        app.sql(note);
        let answer = rebuild.join().unwrap();
        assert_eq!(answer.status, 409, "{}", answer.text());
        assert!(answer.text().contains("retention has deleted events"), "{}", answer.text());
    });
    assert_eq!(app.balance("u").as_deref(), Some("5"));
}

#[test]
fn a_person_erased_during_a_rebuild_is_not_in_the_rebuilt_view() {
    let app = slow();
    send(&app, "ann", "");
    // More than one batch, so that the rebuild has read ann's event before it reaches the end of the log.
    for _ in 0..10 {
        send(&app, "bob", &"x".repeat(1_000_000));
    }
    thread::scope(|scope| {
        let client = app.client();
        let rebuild = scope.spawn(move || client.post(REBUILD, ""));
        let shadow = "SELECT count(*) FROM millrace_positions WHERE view = 'revenue~shadow' AND position > 0";
        wait_for("the first batch of the rebuild", || app.sql(shadow) == "1");
        let erased =
            app.client().post("/v1/streams/revenue/erasures", &json!({ "value": "ann" }).to_string());
        assert_eq!((erased.status, &erased.json()["events"]), (200, &json!(1)), "{}", erased.text());
        let rebuilt = rebuild.join().unwrap();
        assert_eq!(
            (rebuilt.status, &rebuilt.json()["differenceCount"]),
            (200, &json!(0)),
            "{}",
            rebuilt.text()
        );
    });
    assert_eq!((app.balance("ann"), app.balance("bob").as_deref()), (None, Some("50")));
}

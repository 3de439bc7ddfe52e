//! Rebuilds while other hands are at the log: what was folded of it has to be all that made the view.

use std::thread;

use serde_json::json;

use crate::harness::{Start, TestApp, wait_for};

const APPLIED: &str = "/v1/streams/revenue/events?wait=applied";
const REBUILD: &str = "/v1/views/revenue/rebuild";

/// Each batch of a rebuild is begun so late that the test is done with what it does before.
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
fn what_is_given_up_under_a_rebuild_is_not_taken_out_of_the_view() {
    let app = slow();
    send(&app, "u", "");
    thread::scope(|scope| {
        let client = app.client();
        let rebuild = scope.spawn(move || client.post(REBUILD, ""));
        let shadow = "SELECT count(*) FROM millrace_positions WHERE view = 'revenue~shadow'";
        wait_for("the rebuild", || app.sql(shadow) == "1");
        // What retention does first.
        let note = "INSERT INTO millrace_retained (stream, log_id, part, position, blanked) \
                    SELECT 'revenue', log_id, 0, 1, 0 FROM millrace_positions WHERE view = 'revenue'";
        app.sql(note);
        let answer = rebuild.join().unwrap();
        assert_eq!(answer.status, 409, "{}", answer.text());
        assert!(answer.text().contains("given up"), "{}", answer.text());
    });
    assert_eq!(app.balance("u").as_deref(), Some("5"));
}

#[test]
fn whom_a_rebuild_has_read_is_erased_after_it() {
    let app = slow();
    send(&app, "ann", "");
    // More than a batch, so that the rebuild has read of ann before it comes to the end of the log.
    for _ in 0..10 {
        send(&app, "bob", &"x".repeat(1_000_000));
    }
    thread::scope(|scope| {
        let client = app.client();
        let rebuild = scope.spawn(move || client.post(REBUILD, ""));
        let shadow = "SELECT count(*) FROM millrace_positions WHERE view = 'revenue~shadow' AND position > 0";
        wait_for("its first batch", || app.sql(shadow) == "1");
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

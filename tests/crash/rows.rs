//! A table view under kills, and rebuilds of it that are interrupted. Each event is one row, the recorded origin of
//! each row is right, and a half-built table never becomes the view's table.

use serde_json::Value;

use crate::harness::{TestApp, wait_for};
use crate::kills::start;

const EVENTS: &str = "/v1/streams/site_events/events";

fn send(app: &TestApp, from: usize, to: usize) {
    let visit = |number| format!(r#"{{"site_id":"s","event_type":"t","user_id":"u{number}"}}"#);
    let lines: Vec<String> = (from..to).map(visit).collect();
    let answer = app.client().post_lines(EVENTS, &lines.join("\n"));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn ask(app: &TestApp, verb: &str) -> Value {
    let answer = app.client().post(&format!("/v1/views/site_events/{verb}"), "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn users(app: &TestApp) -> Vec<String> {
    let database = app.database();
    let mut statement = database.prepare("SELECT user_id FROM events ORDER BY id").unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<rusqlite::Result<_>>().unwrap()
}

fn expected(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("u{number}")).collect()
}

#[test]
fn each_event_is_one_row_of_known_origin_whenever_the_server_is_killed() {
    for point in ["store.written", "store.commit", "store.committed", "views.applied"] {
        let mut app = TestApp::with(start(&format!("{point}=abort@12")));
        // Count only acknowledged events. The loop ends with the process.
        let mut sent = 0;
        while sent < 4_000 {
            let visit = |number| format!(r#"{{"site_id":"s","event_type":"t","user_id":"u{number}"}}"#);
            let lines: Vec<String> = (sent..sent + 20).map(visit).collect();
            let body = lines.join("\n");
            let path = format!("{EVENTS}?wait=applied");
            let asked =
                app.client().try_request("POST", &path, Some(("application/x-ndjson", body.as_bytes())));
            match asked {
                Ok(answer) if answer.status == 200 => sent += 20,
                _ => break,
            }
        }
        assert!(sent < 4_000, "{point} was not hit");
        app.wait_for_exit();
        app.restart_with(|start| start.environment.clear());
        app.settle();
        let found = users(&app);
        // The last lines may be stored although their answer was lost.
        assert!([sent, sent + 20].contains(&found.len()), "{point}: {sent} sent, {} found", found.len());
        assert_eq!(found, expected(found.len()), "{point}");
        assert_eq!(ask(&app, "reconcile")["differenceCount"], 0, "{point}");
    }
}

#[test]
fn a_lost_table_of_rows_is_rebuilt_completely_or_not_at_all() {
    let mut app = TestApp::with(start("rebuild.page_mended=abort@2"));
    send(&app, 0, 40_000);
    app.settle();
    app.database().execute_batch("DROP TABLE events").unwrap();
    drop(app.client().try_request("POST", "/v1/views/site_events/rebuild", None));
    app.wait_for_exit();
    app.restart_with(|start| start.environment.clear());
    send(&app, 40_000, 40_001);
    wait_for("the view to be paused", || app.view("site_events")["state"] == "paused");
    assert_eq!(ask(&app, "reconcile")["differenceCount"], 40_000, "without the table, every row is missing");
    assert_eq!(ask(&app, "rebuild")["differenceCount"], 40_000);
    app.settle();
    assert_eq!(users(&app), expected(40_001));
    assert_eq!(ask(&app, "reconcile")["differenceCount"], 0);
    let left = "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'millrace_rebuilt%'";
    let left: i64 = app.database().query_row(left, [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0);
}

//! A table of a row an event under kills, and a rebuild of it that is cut off: each event is one row, what is
//! noted of it is true, and nobody takes half a table for the view's own.

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
fn killed_before_and_after_its_commits_each_event_is_one_row_whose_event_is_known() {
    for point in ["store.written", "store.commit", "store.committed", "views.applied"] {
        let mut app = TestApp::with(start(&format!("{point}=abort@12")));
        // Acknowledged before the process ends, or never: what is not is not expected.
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
        assert!(sent < 4_000, "{point} does not strike");
        app.ended();
        app.restart_with(|start| start.environment.clear());
        app.settle();
        let there = users(&app);
        // The last lines may be stored without anybody having been told.
        assert!([sent, sent + 20].contains(&there.len()), "{point}: {sent} sent, {} there", there.len());
        assert_eq!(there, expected(there.len()), "{point}");
        assert_eq!(ask(&app, "reconcile")["differenceCount"], 0, "{point}");
    }
}

#[test]
fn a_table_of_rows_that_is_gone_is_put_back_whole_or_not_at_all() {
    let mut app = TestApp::with(start("rebuild.page_mended=abort@2"));
    send(&app, 0, 40_000);
    app.settle();
    app.database().execute_batch("DROP TABLE events").unwrap();
    drop(app.client().try_request("POST", "/v1/views/site_events/rebuild", None));
    app.ended();
    app.restart_with(|start| start.environment.clear());
    send(&app, 40_000, 40_001);
    wait_for("the view to stand still", || app.view("site_events")["paused"].is_string());
    assert_eq!(ask(&app, "reconcile")["differenceCount"], 40_000, "no table, no row");
    assert_eq!(ask(&app, "rebuild")["differenceCount"], 40_000);
    app.settle();
    assert_eq!(users(&app), expected(40_001));
    assert_eq!(ask(&app, "reconcile")["differenceCount"], 0);
    let left = "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'millrace_rebuilt%'";
    let left: i64 = app.database().query_row(left, [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0);
}

//! `millrace view stats`, and `view reconcile` and `view rebuild` for a view of statistics.

use crate::harness::TestApp;
use crate::{database, failed, run, stderr, stdout};

fn visited() -> TestApp {
    let app = TestApp::start();
    let visit = |user: &str, path: &str, day: u8| {
        format!(
            "{{\"site_id\":\"s\",\"event_type\":\"view\",\"path\":\"{path}\",\"user_id\":\"{user}\",\"timestamp\":\"2025-11-0{day}\"}}\n"
        )
    };
    let mut lines = [visit("a", "/x", 1), visit("b", "/x", 2), visit("a", "", 2)].concat();
    // Enough values for the top-k index.
    lines.extend((0..500).map(|page| visit("c", &format!("/page/{page}"), 3)));
    assert_eq!(app.client().post_lines("/v1/streams/site_events/events", &lines).status, 200);
    app.settle();
    app
}

#[test]
fn statistics_are_printed() {
    let app = visited();
    let shown = run(&app, &["view", "stats", "site_stats", "s", "--by", "path", "--to", "2025-11-02"]);
    assert_eq!(shown, "total     3\ndistinct  2\n\nVALUE  COUNT\n/x         2\n-          1\n");
    assert_eq!(run(&app, &["view", "stats", "site_stats", "s"]), "total     503\ndistinct  3\n");
    let json = run(
        &app,
        &["view", "stats", "site_stats", "s", "--json", "--from", "2025-11-02", "--to", "2025-11-02"],
    );
    assert!(json.contains("\"total\":2") && json.contains("\"distinct\":2"), "{json}");
    assert!(failed(&app, 5, &["view", "stats", "sites", "s"]).contains("`site_stats`"));
    assert!(failed(&app, 5, &["view", "stats", "revenue", "s"]).contains("not a view of statistics"));
    assert!(
        failed(&app, 1, &["view", "stats", "site_stats", "s", "--from", "soon"])
            .contains("from: expected a day")
    );
}

#[test]
fn changed_statistics_are_found_and_rebuilt_from_the_log() {
    let app = visited();
    let truth = run(&app, &["view", "stats", "site_stats", "s", "--by", "path", "--json"]);
    assert_eq!(run(&app, &["view", "reconcile", "site_stats"]), "");
    // The member is the hash of site `s`, all its events, and user `b`.
    let tamper = "UPDATE site_stats_counts SET n = 9 WHERE field = 'path' AND value = '/x' AND day = 0;
        DELETE FROM site_stats_members WHERE member = x'feb8f1569b90fcfb79e30fd94ce52ab3';
        INSERT INTO site_stats_spans VALUES ('t', '', '', 0, 0, 4);
        UPDATE site_stats_top SET n = 77";
    database(&app).execute_batch(tamper).unwrap();
    let output = app.command(&["view", "reconcile", "site_stats"]);
    assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
    assert_eq!(
        stdout(&output),
        "KEY                                                              HAS  SHOULD HAVE\n\
         site_stats_counts s path 0 /x                                      9            2\n\
         site_stats_members feb8f1569b90fcfb79e30fd94ce52ab3 20251102  no row            1\n\
         site_stats_spans t - - 0 0                                         4            0\n"
    );
    let rebuilt = run(&app, &["view", "rebuild", "site_stats"]);
    assert!(rebuilt.contains("site_stats_counts s path 0 /x"), "{rebuilt}");
    assert_eq!(run(&app, &["view", "reconcile", "site_stats"]), "");
    assert_eq!(run(&app, &["view", "stats", "site_stats", "s", "--by", "path", "--json"]), truth);
    let event = r#"{"site_id":"s","event_type":"view","path":"/x","user_id":"d"}"#;
    assert_eq!(app.client().post("/v1/streams/site_events/events?wait=applied", event).status, 200);
    let more = run(&app, &["view", "stats", "site_stats", "s", "--by", "path", "--top", "1"]);
    assert_eq!(more, "total     504\ndistinct  4\n\nVALUE  COUNT\n/x         3\n");
    assert_eq!(run(&app, &["view", "reconcile", "site_stats"]), "");
}

#[test]
fn dropped_statistics_tables_are_recreated() {
    let app = visited();
    let truth = run(&app, &["view", "stats", "site_stats", "s", "--by", "path"]);
    database(&app).execute_batch("DROP TABLE site_stats_counts; DROP TABLE site_stats_floors").unwrap();
    run(&app, &["view", "rebuild", "site_stats"]);
    assert_eq!(run(&app, &["view", "stats", "site_stats", "s", "--by", "path"]), truth);
    let left: i64 = database(&app)
        .query_row("SELECT COUNT(*) FROM sqlite_schema WHERE name LIKE 'millrace_shadow%'", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(left, 0);
}

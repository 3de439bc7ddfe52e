//! Statistics under kills. Every acknowledged event is in every number once, and an interrupted rebuild leaves the
//! tables unchanged.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::harness::{TestApp, wait_for};
use crate::kills::start;

const EVENTS: &str = "/v1/streams/site_events/events";
const REBUILD: &str = "/v1/views/site_stats/rebuild";
const RECONCILE: &str = "/v1/views/site_stats/reconcile";

/// Returns path, user and day of each event of a part. Paths and users repeat across parts.
fn visits(part: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..600).map(move |number| {
        ((number * (part % 3 + 1)) % 555, (number * 7 + part) % 101, 1 + (number + part) % 4)
    })
}

fn body(part: usize) -> String {
    let line = |(path, user, day): (usize, usize, usize)| {
        format!(
            "{{\"site_id\":\"s\",\"event_type\":\"view\",\"path\":\"/{path}\",\"user_id\":\"u{user}\",\"timestamp\":\"2025-11-0{day}\"}}\n"
        )
    };
    visits(part).map(line).collect()
}

/// Sends a part with its idempotency key until it is acknowledged. A server that has ended is restarted without
/// failpoints.
fn send_until_acknowledged(app: &mut TestApp, part: usize) {
    loop {
        let client = app.client().with_header("Idempotency-Key", &format!("part-{part}"));
        let body = body(part);
        match client.try_request("POST", EVENTS, Some(("application/x-ndjson", body.as_bytes()))) {
            Ok(answer) if answer.status == 200 => return,
            _ => app.restart_with(|before| before.environment.clear()),
        }
    }
}

/// Blocks until the view has applied everything or the server has ended. Returns whether it has ended.
fn applied_or_gone(app: &mut TestApp) -> bool {
    let client = app.anonymous();
    let applied = || {
        let ready = client.try_request("GET", "/ready", None).ok()?.json();
        Some(ready["views"]["site_stats"]["lag"] == 0)
    };
    wait_for("a kill or the view", || applied() == Some(true) || app.is_gone());
    app.is_gone()
}

/// Fails unless `GET /stats` returns the numbers of a count over all events.
fn check_stats(app: &TestApp, parts: usize) {
    app.settle();
    for day in [None, Some(1), Some(4)] {
        let mut paths: BTreeMap<String, u64> = BTreeMap::new();
        let mut users = BTreeSet::new();
        for (path, user, _) in
            (0..parts).flat_map(visits).filter(|(_, _, of)| day.is_none_or(|day| day == *of))
        {
            *paths.entry(format!("/{path}")).or_default() += 1;
            users.insert(user);
        }
        let total: u64 = paths.values().sum();
        let mut first: Vec<(String, u64)> = paths.into_iter().collect();
        first.sort_by(|a, b| (b.1, &a.0).cmp(&(a.1, &b.0)));
        let top: Vec<Value> =
            first.iter().take(3).map(|(path, n)| json!({ "path": path, "views": n })).collect();
        let date = day.map(|day| format!("&date=2025-11-0{day}")).unwrap_or_default();
        let answer = app.client().get(&format!("/stats?site_id=s{date}")).json();
        assert_eq!(answer["total_views"], total, "{day:?}");
        assert_eq!(answer["unique_users"], users.len(), "{day:?}");
        assert_eq!(answer["top_paths"], json!(top), "{day:?}");
    }
    let report = app.client().post(RECONCILE, "").json();
    assert_eq!(report["differenceCount"], 0, "{report}");
}

#[test]
fn statistics_are_exact_wherever_the_server_is_killed() {
    let points = ["store.written", "store.commit", "store.committed", "views.applied", "views.folded"];
    let mut app = TestApp::with(start(""));
    let mut kills = 0;
    for (part, point) in points.iter().cycle().take(15).enumerate() {
        let failpoints = format!("{point}=abort@{}", 1 + part / 5);
        if app.try_restart_with(|before| before.environment = start(&failpoints).environment).is_err() {
            app.restart_with(|before| before.environment.clear());
        }
        send_until_acknowledged(&mut app, part);
        kills += u64::from(applied_or_gone(&mut app));
    }
    app.restart_with(|before| before.environment.clear());
    assert!(kills >= 3, "only {kills} kills");
    check_stats(&app, 15);
}

#[test]
fn an_interrupted_rebuild_of_statistics_changes_nothing_and_the_next_one_repairs_them() {
    let mut app = TestApp::with(start(""));
    for part in 0..2 {
        send_until_acknowledged(&mut app, part);
    }
    app.settle();
    let wrong_counts = "UPDATE site_stats_counts SET n = n + 1; DELETE FROM site_stats_top";
    app.database().execute_batch(wrong_counts).unwrap();
    for point in ["rebuild.cleared", "rebuild.batch", "rebuild.folded", "rebuild.mended"] {
        app.restart_with(|before| before.environment = start(&format!("{point}=abort@1")).environment);
        app.settle();
        assert!(app.client().try_request("POST", REBUILD, None).is_err(), "{point} was not hit");
        app.restart_with(|before| before.environment.clear());
        let total = app.client().get("/stats?site_id=s").json()["total_views"].clone();
        assert_eq!(total, 1_201, "{point}: the rebuild changed the tables");
    }
    assert_eq!(app.client().post(REBUILD, "").status, 200);
    check_stats(&app, 2);
    let left = "SELECT COUNT(*) FROM sqlite_schema WHERE name LIKE 'millrace_shadow%'";
    assert_eq!(app.database().query_row(left, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}

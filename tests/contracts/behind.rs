//! A view with a large backlog. Batches that are folded before the store has applied the earlier ones count
//! once. An event that cannot be folded ahead, or that the database rejects, stops no other event.

use serde_json::json;

use crate::harness::{Start, TestApp, wait_for};

const SALES: &str = "/v1/streams/revenue/events";
const VISITS: &str = "/v1/streams/site_events/events";
/// Enough for several batches.
const EVENTS: usize = 50_000;

fn sale(user: &str) -> String {
    json!({ "userId": user, "name": "add_revenue", "value": 1 }).to_string()
}

fn visit(user: &str) -> String {
    json!({ "site_id": "s", "event_type": "page_view", "user_id": user }).to_string()
}

/// Returns `EVENTS` lines. One line in the middle of the batches belongs to `somebody`.
fn lines(one: impl Fn(&str) -> String, somebody: &str) -> String {
    let user =
        |number| if number == EVENTS - 8_000 { somebody.to_owned() } else { format!("u{}", number % 70) };
    (0..EVENTS).map(|number| one(&user(number)) + "\n").collect()
}

fn differences(app: &TestApp, view: &str) -> serde_json::Value {
    app.client().post(&format!("/v1/views/{view}/reconcile"), "").json()["differenceCount"].clone()
}

#[test]
fn a_rejected_row_in_a_backlog_is_found_and_all_others_count_once() {
    let app = TestApp::start();
    let client = app.client();
    for (path, view, table, column, all) in [
        (SALES, "revenue", "users_revenue", "user_id", lines(sale, "bad")),
        (VISITS, "site_events", "events", "user_id", lines(visit, "bad")),
    ] {
        let first = if path == SALES { sale("first") } else { visit("first") };
        assert_eq!(client.post(&format!("{path}?wait=applied"), &first).status, 200);
        app.stored.refuse(table, column, "bad");
        app.sql(&format!("ALTER TABLE {table} RENAME TO away"));
        assert_eq!(client.post_lines(path, &all).status, 200);
        wait_for("the view to pause", || app.view(view)["state"] == "paused");
        app.sql(&format!("ALTER TABLE away RENAME TO {table}"));
        app.settle();
        let dead_letters = client.get("/v1/dead-letters?status=open").json();
        let dead_letters = dead_letters["deadLetters"].as_array().unwrap();
        assert_eq!(
            dead_letters.iter().filter(|dead_letter| dead_letter["view"] == view).count(),
            1,
            "{view}: {dead_letters:?}"
        );
        assert_eq!(differences(&app, view), 0, "{view}");
        app.stored.stop_refusing(table);
    }
    assert_eq!(app.sql("SELECT COUNT(*) FROM events"), EVENTS.to_string());
    let expected = EVENTS.div_ceil(70).to_string();
    assert_eq!(app.balance("u1").as_deref(), Some(expected.as_str()));
}

#[test]
fn a_correction_in_a_backlog_is_applied_once_although_the_process_is_killed() {
    let mut app = TestApp::start();
    let client = app.client();
    let wrong = client.post(&format!("{SALES}?wait=applied"), &sale("wrong")).json();
    app.sql("ALTER TABLE users_revenue RENAME TO away");
    let all = lines(sale, "somebody");
    assert_eq!(client.post_lines(SALES, &all).status, 200);
    let correction = json!({ "takesBack": wrong["eventId"] }).to_string();
    assert_eq!(client.post(SALES, &correction).status, 200);
    assert_eq!(client.post_lines(SALES, &all).status, 200);
    app.sql("ALTER TABLE away RENAME TO users_revenue");
    wait_for("the view to continue", || app.view("revenue")["position"].as_u64() > Some(1));
    app.kill();
    app.restart();
    app.settle();
    assert_eq!(app.balance("somebody").as_deref(), Some("2"));
    assert_eq!(app.balance("wrong").as_deref(), Some("0"));
    assert_eq!(differences(&app, "revenue"), 0);
}

/// While the store writes one plan, the plans after it are merged into one.
#[test]
fn statistics_catch_up_exactly_although_the_process_is_killed() {
    const DAYS: usize = 3;
    const USERS: usize = 997;
    let mut app = TestApp::start();
    let client = app.client();
    let visit = |number: usize| {
        let (user, path, day) = (number % USERS, number % 13, 1 + number * DAYS / (3 * EVENTS));
        json!({
            "site_id": "s", "event_type": "page_view", "user_id": format!("u{user}"),
            "path": format!("/{path}"), "timestamp": format!("2025-11-0{day}"),
        })
    };
    assert_eq!(client.post(&format!("{VISITS}?wait=applied"), &visit(0).to_string()).status, 200);
    app.sql("ALTER TABLE site_stats_counts RENAME TO away");
    let all: String = (1..3 * EVENTS).map(|number| format!("{}\n", visit(number))).collect();
    assert_eq!(client.post_lines(VISITS, &all).status, 200);
    app.stop();
    app.sql("ALTER TABLE away RENAME TO site_stats_counts");
    let slow = |before: &mut Start, kill: &str| {
        let points = format!("store.written=sleep:700{kill}");
        before.environment = vec![("MILLRACE_FAILPOINTS".to_owned(), points)];
    };
    drop(app.try_restart_with(|before| slow(before, ";views.applied=abort@1")));
    wait_for("the kill", || app.is_gone());
    app.restart_with(|before| slow(before, ""));
    app.settle();

    let numbers = |of: std::ops::Range<usize>| {
        let of_path = |path: usize| of.clone().filter(|number| number % 13 == path).count();
        let mut paths: Vec<(usize, String)> =
            (0..13).map(|path| (of_path(path), format!("/{path}"))).collect();
        paths.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        let top: Vec<_> =
            paths[..3].iter().map(|(views, path)| json!({ "path": path, "views": views })).collect();
        (of.len(), USERS, top)
    };
    let found = |date: &str| {
        let stats = app.client().get(&format!("/stats?site_id=s{date}")).json();
        let [total, users] =
            ["total_views", "unique_users"].map(|name| stats[name].as_u64().unwrap() as usize);
        (total, users, stats["top_paths"].as_array().unwrap().clone())
    };
    assert_eq!(found(""), numbers(0..3 * EVENTS));
    for day in 0..DAYS {
        let begin = |day: usize| (day * 3 * EVENTS).div_ceil(DAYS);
        assert_eq!(found(&format!("&date=2025-11-0{}", day + 1)), numbers(begin(day)..begin(day + 1)));
    }
    assert_eq!(differences(&app, "site_stats"), 0);
}

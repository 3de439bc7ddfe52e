//! Disturbances of the store from outside: another program locks it, an older copy replaces it, or rows are
//! corrupted. Also a process that is paused, and rebuilds and retries that are interrupted.

use std::time::{Duration, Instant};

use journal::simulation::Rng;
use rusqlite::{Connection, params};

use crate::checker::{Checker, balances};
use crate::failpoints::set;
use crate::harness::seed::Seed;
use crate::harness::{Start, TestApp, wait_for};
use crate::kills::start;
use crate::load::Load;

const REBUILD: &str = "/v1/views/revenue/rebuild";
const RECONCILE: &str = "/v1/views/revenue/reconcile";

fn database(app: &TestApp) -> Connection {
    let connection = Connection::open(app.data().join("millrace.db")).unwrap();
    connection.busy_timeout(Duration::from_secs(20)).unwrap();
    connection
}

/// Writes a text into a user's balance that millrace never writes.
pub fn corrupt_row(app: &TestApp, user: &str, amount: &str) {
    let sql = "UPDATE users_revenue SET revenue = ?1 WHERE user_id = ?2";
    assert_eq!(database(app).execute(sql, params![amount, user]).unwrap(), 1, "{user} has a row");
}

pub fn corrupt_all_rows(app: &TestApp, amount: &str) {
    assert!(database(app).execute("UPDATE users_revenue SET revenue = ?1", [amount]).unwrap() > 0);
}

fn sale(app: &TestApp, user: &str, value: &str) {
    let body = format!(r#"{{"userId":"{user}","name":"add_revenue","value":{value}}}"#);
    let answer = app.client().post("/v1/streams/revenue/events?wait=applied", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Returns a server in which `victim` has a balance of 1, and the id of a dead letter for an event of 41.5. The row
/// is valid again.
pub fn with_dead_letter(start: &Start) -> (TestApp, String) {
    let app = TestApp::with(start.clone());
    sale(&app, "victim", "1");
    corrupt_row(&app, "victim", "not a number");
    sale(&app, "victim", "41.5");
    corrupt_row(&app, "victim", "1");
    let dead_letters = app.client().get("/v1/dead-letters?status=open").json();
    let dead_letter =
        dead_letters["deadLetters"][0]["id"].as_str().unwrap_or_else(|| panic!("{dead_letters}")).to_owned();
    (app, dead_letter)
}

fn checker(app: &TestApp) -> Checker {
    Checker::open(&app.folder.path().join("history"))
}

fn log_end(app: &TestApp) -> u64 {
    app.client().get("/ready").json()["log"]["end"].as_u64().unwrap()
}

#[test]
fn a_paused_process_resumes_where_it_was() {
    let seed = Seed::new();
    let mut rng = Rng::new(seed.0);
    let app = TestApp::with(start(""));
    let checker = checker(&app);
    Load::new(&checker, app.client()).run(rng.draw(), || {
        for _ in 0..5 {
            let end = log_end(&app);
            wait_for("more events", || log_end(&app) > end + 20);
            app.signal("-STOP");
            std::thread::sleep(Duration::from_millis(rng.below(200)));
            app.signal("-CONT");
        }
    });
    checker.demand_equality(&app).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn while_the_store_is_locked_events_are_accepted_and_the_view_waits() {
    let app = TestApp::with(start(""));
    let checker = checker(&app);
    let load = Load::new(&checker, app.client());
    load.run(3, || {
        wait_for("some events", || log_end(&app) > 50);
        let other = database(&app);
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let view = || app.client().get("/ready").json()["views"]["revenue"].clone();
        // Dedup comes before the view and may need the store first. Then the view has nothing to wait for.
        let waits = || {
            let views = app.client().get("/ready").json()["views"].clone();
            ["dedup", "revenue"].iter().any(|name| views[name]["state"] == "waiting")
        };
        wait_for("dedup or view to report that it waits", waits);
        let (end, before) = (log_end(&app), view()["position"].clone());
        wait_for("events to be accepted", || log_end(&app) > end + 50);
        assert_eq!(app.client().get("/ready").status, 200);
        assert_eq!(view()["position"], before);
        other.execute_batch("COMMIT").unwrap();
        wait_for("the view to continue", || view()["position"].as_u64() > before.as_u64());
    });
    checker.demand_equality(&app).unwrap();
    assert!(app.client().get("/ready").json()["views"]["revenue"]["state"] != "waiting");
}

#[test]
fn a_store_restored_from_an_older_copy_is_caught_up_exactly() {
    let mut app = TestApp::with(start(""));
    let checker = checker(&app);
    let send = |app: &TestApp| {
        let end = log_end(app);
        let load = Load::new(&checker, app.client());
        load.run(end, || wait_for("events", || log_end(app) > end + 300));
    };
    send(&app);
    assert_eq!(app.stop(), Some(0));
    let (store, copy) = (app.data().join("millrace.db"), app.folder.path().join("copy"));
    std::fs::copy(&store, &copy).unwrap();
    app.restart();
    send(&app);
    app.kill();
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(app.data().join(format!("millrace.db{suffix}")));
    }
    std::fs::copy(&copy, &store).unwrap();
    app.restart();
    let proof = checker.demand_equality(&app).unwrap();
    assert!(proof.repeats_in_log > 0, "{proof:?}");
}

#[test]
fn a_lost_table_is_rebuilt_completely_or_not_at_all() {
    let mut app = TestApp::with(start("rebuild.page_mended=abort@1"));
    let checker = checker(&app);
    Load::new(&checker, app.client()).many_users(10_000);
    app.settle();
    // A SQL view of the user refers to the table, also while the table does not exist.
    let report = "CREATE VIEW report AS SELECT * FROM users_revenue; DROP TABLE users_revenue";
    database(&app).execute_batch(report).unwrap();
    drop(app.client().try_request("POST", REBUILD, None));
    app.wait_for_exit();

    app.restart_with(|start| start.environment.clear());
    // If the rebuild had left half a table, the view would use it and continue.
    sale_unapplied(&app);
    wait_for("the view to be paused", || app.view("revenue")["state"] == "paused");
    assert_eq!(rebuild_tables(&app), 1, "the interrupted rebuild left its table");
    assert_eq!(
        app.client().post(RECONCILE, "").json()["differenceCount"],
        10_000,
        "without the table, every balance is missing"
    );
    assert_eq!(rebuild_tables(&app), 0, "the leftover table is removed");
    let rebuilt = app.client().post(REBUILD, "");
    assert_eq!(rebuilt.status, 200, "{}", rebuilt.text());
    app.settle();
    assert_eq!(app.client().post(RECONCILE, "").json()["differenceCount"], 0);
    let reported: i64 =
        database(&app).query_row("SELECT COUNT(*) FROM report", [], |row| row.get(0)).unwrap();
    assert!(reported > 10_000, "{reported}");
    assert!(balances(&app.client()).len() > 10_000, "every user has a balance again");
}

fn rebuild_tables(app: &TestApp) -> i64 {
    let sql = "SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name GLOB 'millrace_rebuilt_*'";
    database(app).query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn a_rebuild_ends_when_the_server_is_stopped() {
    let mut app = TestApp::with(start("rebuild.batch=sleep:1500"));
    sale(&app, "user", "1");
    let client = app.client();
    std::thread::scope(|scope| {
        let rebuild = scope.spawn(move || client.post(REBUILD, ""));
        let shadow = "SELECT COUNT(*) FROM sqlite_schema WHERE name = 'millrace_shadow_revenue'";
        let begun = || database(&app).query_row(shadow, [], |row| row.get::<_, i64>(0)).unwrap() > 0;
        wait_for("the rebuild to begin", begun);
        app.signal("-TERM");
        let answer = rebuild.join().unwrap();
        assert_eq!(answer.status, 503, "{}", answer.text());
    });
    assert_eq!(app.wait_for_exit(), Some(0));
    app.restart_with(|start| start.environment.clear());
    assert_eq!(app.client().post(REBUILD, "").json()["differenceCount"], 0);
}

fn sale_unapplied(app: &TestApp) {
    let body = r#"{"userId":"late","name":"add_revenue","value":1}"#;
    assert_eq!(app.client().post("/v1/streams/revenue/events", body).status, 200);
}

#[test]
fn a_complete_rebuild_after_interrupted_ones_is_exact() {
    let seed = Seed::new();
    let mut rng = Rng::new(seed.0);
    let mut app = TestApp::with(start("rebuild.page_mended=sleep:20"));
    let checker = checker(&app);
    Load::new(&checker, app.client()).many_users(10_000);
    Load::new(&checker, app.client()).many_users(4_000);
    app.settle();
    let asked = Instant::now();
    assert_eq!(app.client().post(REBUILD, "").status, 200);
    let whole = asked.elapsed();
    for _ in 0..4 {
        corrupt_all_rows(&app, "0.25");
        let client = app.client();
        std::thread::scope(|scope| {
            scope.spawn(|| client.try_request("POST", REBUILD, None));
            // The kill must come at a random moment, and not at a condition.
            std::thread::sleep(whole.mul_f64(rng.below(100) as f64 / 100.0));
            app.kill();
        });
        app.restart();
    }
    assert_eq!(app.client().post(REBUILD, "").status, 200);
    checker.demand_equality(&app).unwrap_or_else(|error| panic!("{error}"));
}

/// Both fold the log into the same shadow tables, so one would compare with tables that the other has cleared.
#[test]
fn a_reconcile_is_refused_while_a_rebuild_runs() {
    let app = TestApp::with(start("rebuild.cleared=sleep:800;rebuild.folded=sleep:300"));
    let checker = checker(&app);
    Load::new(&checker, app.client()).many_users(10_000);
    Load::new(&checker, app.client()).many_users(2_000);
    app.settle();
    corrupt_all_rows(&app, "7");
    let on_hold = || app.log_line("view is on hold").is_some();
    std::thread::scope(|scope| {
        let rebuild = scope.spawn(|| app.client().post(REBUILD, ""));
        wait_for("the rebuild to hold the view", on_hold);
        let second = app.client().post(RECONCILE, "");
        assert_eq!(second.status, 409, "{}", second.text());
        let first = rebuild.join().unwrap();
        assert_eq!(first.status, 200, "{}", first.text());
        assert_eq!(first.json()["differenceCount"], 12_000, "each balance was 7");
    });
    checker.demand_equality(&app).unwrap();
}

/// Two retries of one dead letter, with different corrected events, at the same time. Only the first may count, and
/// only for its view.
#[test]
fn a_dead_letter_retried_twice_with_different_texts_counts_once() {
    let (app, dead_letter) = with_dead_letter(&start("store.begin=sleep:300"));
    let path = format!("/v1/dead-letters/{dead_letter}/retry");
    let corrected = |value: u32| format!(r#"{{"userId":"victim","name":"add_revenue","value":{value}}}"#);
    let answers = std::thread::scope(|scope| {
        let send = |value| {
            let (app, path, body) = (&app, &path, corrected(value));
            scope.spawn(move || app.client().post(path, &body).status)
        };
        [send(10), send(20)].map(|sent| sent.join().unwrap())
    });
    app.settle();
    let balance = balances(&app.client())["victim"].clone();
    match answers {
        [200, 409] => assert_eq!(balance, "11"),
        [409, 200] => assert_eq!(balance, "21"),
        other => panic!("expected one 200 and one 409: {other:?}"),
    }
    let open = app.client().get("/v1/dead-letters?status=open").json();
    // A dead letter of dedup would go to every view of the stream if it were retried, so none must be left.
    assert_eq!(open["deadLetters"].as_array().unwrap().len(), 0, "{open}");
    assert_eq!(app.client().post(RECONCILE, "").json()["differenceCount"], 0);
}

/// Dedup has not yet read the correction when the dead letter is retried.
#[test]
fn a_dead_letter_whose_event_was_just_corrected_is_not_retried() {
    let (mut app, dead_letter) = with_dead_letter(&start(""));
    let path = format!("/v1/dead-letters/{dead_letter}");
    let event = app.client().get(&path).json()["eventId"].clone();
    set(&mut app, "dedup.judged=sleep:300").unwrap();
    let correction = serde_json::json!({ "takesBack": event }).to_string();
    assert_eq!(app.client().post("/v1/streams/revenue/events", &correction).status, 200);
    let retried = app.client().post(&format!("{path}/retry"), "");
    assert_eq!(retried.status, 409, "{}", retried.text());
    app.settle();
    assert_eq!(balances(&app.client())["victim"], "1");
}

#[test]
fn an_empty_key_file_is_replaced_and_not_used_as_a_key() {
    let mut app = TestApp::with(start(""));
    app.kill();
    std::fs::write(app.data().join("api-key"), "").unwrap();
    app.restart();
    sale(&app, "user", "1");
}

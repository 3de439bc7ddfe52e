//! What can happen to the store from outside: it is locked by somebody, set back to an older copy, its
//! rows are spoilt; the process stands still in the middle; rebuilds and retries are cut off.

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

/// Puts something into a user's row that millrace never would.
pub fn spoil(app: &TestApp, user: &str, amount: &str) {
    let sql = "UPDATE users_revenue SET revenue = ?1 WHERE user_id = ?2";
    assert_eq!(database(app).execute(sql, params![amount, user]).unwrap(), 1, "{user} has a row");
}

pub fn spoil_all(app: &TestApp, amount: &str) {
    assert!(database(app).execute("UPDATE users_revenue SET revenue = ?1", [amount]).unwrap() > 0);
}

fn sale(app: &TestApp, user: &str, value: &str) {
    let body = format!(r#"{{"userId":"{user}","name":"add_revenue","value":{value}}}"#);
    let answer = app.client().post("/v1/streams/revenue/events?wait=applied", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// A server in which `victim` has 1, and an event of 41.5 that its row did not take. The row is mended.
pub fn with_dead_letter(start: &Start) -> (TestApp, String) {
    let app = TestApp::with(start.clone());
    sale(&app, "victim", "1");
    spoil(&app, "victim", "spoilt");
    sale(&app, "victim", "41.5");
    spoil(&app, "victim", "1");
    let letters = app.client().get("/v1/dead-letters?status=open").json();
    let letter = letters["deadLetters"][0]["id"].as_str().unwrap_or_else(|| panic!("{letters}")).to_owned();
    (app, letter)
}

fn checker(app: &TestApp) -> Checker {
    Checker::open(&app.folder.path().join("history"))
}

fn log_end(app: &TestApp) -> u64 {
    app.client().get("/ready").json()["log"]["end"].as_u64().unwrap()
}

#[test]
fn a_process_that_stands_still_for_a_while_goes_on_where_it_was() {
    let seed = Seed::new();
    let mut chance = Rng::new(seed.0);
    let app = TestApp::with(start(""));
    let checker = checker(&app);
    Load::new(&checker, app.client()).run(chance.draw(), || {
        for _ in 0..5 {
            let end = log_end(&app);
            wait_for("more events", || log_end(&app) > end + 20);
            app.signal("-STOP");
            std::thread::sleep(Duration::from_millis(chance.below(200)));
            app.signal("-CONT");
        }
    });
    checker.demand_equality(&app).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn while_somebody_else_holds_the_store_events_are_taken_and_the_view_waits() {
    let app = TestApp::with(start(""));
    let checker = checker(&app);
    let load = Load::new(&checker, app.client());
    load.run(3, || {
        wait_for("some events", || log_end(&app) > 50);
        let other = database(&app);
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let view = || app.client().get("/ready").json()["views"]["revenue"].clone();
        // The gate, in front of it, may be the first to need the store; then the view has nothing to wait for.
        let waits = || {
            let views = app.client().get("/ready").json()["views"].clone();
            ["dedup", "revenue"].iter().any(|name| views[name]["waiting"].is_string())
        };
        wait_for("gate or view to say that it waits", waits);
        let (end, before) = (log_end(&app), view()["position"].clone());
        wait_for("events to be taken all the same", || log_end(&app) > end + 50);
        assert_eq!(app.client().get("/ready").status, 200);
        assert_eq!(view()["position"], before);
        other.execute_batch("COMMIT").unwrap();
        wait_for("the view to go on", || view()["position"].as_u64() > before.as_u64());
    });
    checker.demand_equality(&app).unwrap();
    assert!(app.client().get("/ready").json()["views"]["revenue"]["waiting"].is_null());
}

#[test]
fn a_store_set_back_to_an_older_copy_is_caught_up_from_the_log_exactly() {
    let mut app = TestApp::with(start(""));
    let checker = checker(&app);
    let sent = |app: &TestApp| {
        let end = log_end(app);
        let load = Load::new(&checker, app.client());
        load.run(end, || wait_for("events", || log_end(app) > end + 300));
    };
    sent(&app);
    assert_eq!(app.stop(), Some(0));
    let (store, copy) = (app.data().join("millrace.db"), app.folder.path().join("copy"));
    std::fs::copy(&store, &copy).unwrap();
    app.restart();
    sent(&app);
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
fn a_table_that_is_gone_is_put_back_whole_or_not_at_all() {
    let mut app = TestApp::with(start("rebuild.page_mended=abort@1"));
    let checker = checker(&app);
    Load::new(&checker, app.client()).many_users(10_000);
    app.settle();
    // A view of the user's own names the table also while it is gone.
    let report = "CREATE VIEW report AS SELECT * FROM users_revenue; DROP TABLE users_revenue";
    database(&app).execute_batch(report).unwrap();
    drop(app.client().try_request("POST", REBUILD, None));
    app.ended();

    app.restart_with(|start| start.environment.clear());
    // Half a table would be taken for the view's own, and gone on with.
    sale_unapplied(&app);
    wait_for("the view to stand still", || app.view("revenue")["paused"].is_string());
    assert_eq!(made_for_a_rebuild(&app), 1, "what was cut off");
    assert_eq!(app.client().post(RECONCILE, "").json()["differenceCount"], 10_000, "no table, no row");
    assert_eq!(made_for_a_rebuild(&app), 0, "nothing of it is left over");
    let rebuilt = app.client().post(REBUILD, "");
    assert_eq!(rebuilt.status, 200, "{}", rebuilt.text());
    app.settle();
    assert_eq!(app.client().post(RECONCILE, "").json()["differenceCount"], 0);
    let reported: i64 =
        database(&app).query_row("SELECT COUNT(*) FROM report", [], |row| row.get(0)).unwrap();
    assert!(reported > 10_000, "{reported}");
    assert!(balances(&app.client()).len() > 10_000, "every user is back");
}

fn made_for_a_rebuild(app: &TestApp) -> i64 {
    let sql = "SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name GLOB 'millrace_rebuilt_*'";
    database(app).query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn a_rebuild_lets_go_when_the_server_is_to_stop() {
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
    assert_eq!(app.ended(), Some(0));
    app.restart_with(|start| start.environment.clear());
    assert_eq!(app.client().post(REBUILD, "").json()["differenceCount"], 0);
}

fn sale_unapplied(app: &TestApp) {
    let body = r#"{"userId":"late","name":"add_revenue","value":1}"#;
    assert_eq!(app.client().post("/v1/streams/revenue/events", body).status, 200);
}

#[test]
fn rebuilds_cut_off_at_random_are_exact_once_one_comes_through() {
    let seed = Seed::new();
    let mut chance = Rng::new(seed.0);
    let mut app = TestApp::with(start("rebuild.page_mended=sleep:20"));
    let checker = checker(&app);
    Load::new(&checker, app.client()).many_users(10_000);
    Load::new(&checker, app.client()).many_users(4_000);
    app.settle();
    let asked = Instant::now();
    assert_eq!(app.client().post(REBUILD, "").status, 200);
    let whole = asked.elapsed();
    for _ in 0..4 {
        spoil_all(&app, "0.25");
        let client = app.client();
        std::thread::scope(|scope| {
            scope.spawn(|| client.try_request("POST", REBUILD, None));
            // The moment is the point: there is no condition to wait for.
            std::thread::sleep(whole.mul_f64(chance.below(100) as f64 / 100.0));
            app.kill();
        });
        app.restart();
    }
    assert_eq!(app.client().post(REBUILD, "").status, 200);
    checker.demand_equality(&app).unwrap_or_else(|error| panic!("{error}"));
}

/// Both fold the log into the same shadow: one would compare with what the other has just thrown away.
#[test]
fn a_rebuild_and_a_comparison_at_once_do_not_take_each_others_shadow_away() {
    let app = TestApp::with(start("rebuild.cleared=sleep:800;rebuild.folded=sleep:300"));
    let checker = checker(&app);
    Load::new(&checker, app.client()).many_users(10_000);
    Load::new(&checker, app.client()).many_users(2_000);
    app.settle();
    spoil_all(&app, "7");
    let held = || app.log_line("view is on hold").is_some();
    std::thread::scope(|scope| {
        let rebuild = scope.spawn(|| app.client().post(REBUILD, ""));
        wait_for("the rebuild to hold the view", held);
        let second = app.client().post(RECONCILE, "");
        assert_eq!(second.status, 409, "{}", second.text());
        let first = rebuild.join().unwrap();
        assert_eq!(first.status, 200, "{}", first.text());
        assert_eq!(first.json()["differenceCount"], 12_000, "each had 7");
    });
    checker.demand_equality(&app).unwrap();
}

/// Two ways to mend one letter, sent at once: only the first may count, and for its view alone.
#[test]
fn a_dead_letter_sent_again_twice_with_different_texts_counts_once() {
    let (app, letter) = with_dead_letter(&start("store.begin=sleep:300"));
    let path = format!("/v1/dead-letters/{letter}/retry");
    let mended = |value: u32| format!(r#"{{"userId":"victim","name":"add_revenue","value":{value}}}"#);
    let answers = std::thread::scope(|scope| {
        let send = |value| {
            let (app, path, body) = (&app, &path, mended(value));
            scope.spawn(move || app.client().post(path, &body).status)
        };
        [send(10), send(20)].map(|sent| sent.join().unwrap())
    });
    app.settle();
    let balance = balances(&app.client())["victim"].clone();
    match answers {
        [200, 409] => assert_eq!(balance, "11"),
        [409, 200] => assert_eq!(balance, "21"),
        other => panic!("one is taken and the other told so: {other:?}"),
    }
    let open = app.client().get("/v1/dead-letters?status=open").json();
    // Sent again, a letter of the gate would go to every view of the stream.
    assert_eq!(open["deadLetters"].as_array().unwrap().len(), 0, "{open}");
    assert_eq!(app.client().post(RECONCILE, "").json()["differenceCount"], 0);
}

/// The gate has not come to the correction when the letter is sent again.
#[test]
fn a_dead_letter_whose_event_was_just_taken_back_is_not_sent_again() {
    let (mut app, letter) = with_dead_letter(&start(""));
    let path = format!("/v1/dead-letters/{letter}");
    let event = app.client().get(&path).json()["eventId"].clone();
    set(&mut app, "gate.judged=sleep:300").unwrap();
    let correction = serde_json::json!({ "takesBack": event }).to_string();
    assert_eq!(app.client().post("/v1/streams/revenue/events", &correction).status, 200);
    let sent = app.client().post(&format!("{path}/retry"), "");
    assert_eq!(sent.status, 409, "{}", sent.text());
    app.settle();
    assert_eq!(balances(&app.client())["victim"], "1");
}

#[test]
fn an_empty_key_file_is_made_anew_and_not_taken_for_a_key() {
    let mut app = TestApp::with(start(""));
    app.kill();
    std::fs::write(app.data().join("api-key"), "").unwrap();
    app.restart();
    sale(&app, "user", "1");
}

//! Somebody deletes, moves or replaces files of a running server. The server never loses events silently.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::harness::{Start, StoreKind, TestApp, wait_for};

const SALE: &str = r#"{"userId":"ann","name":"add_revenue","value":1}"#;

fn sell(app: &TestApp, times: usize) {
    for _ in 0..times {
        assert_eq!(app.client().post("/liveEvent", SALE).status, 200);
    }
}

#[test]
fn deleting_the_lock_file_does_not_let_a_second_server_in() {
    let app = TestApp::start();
    sell(&app, 1);
    fs::remove_file(app.data().join("journal/lock")).unwrap();
    let second = TestApp::try_with(Start::default(), Arc::clone(&app.folder));
    let Err(log) = second else { panic!("two servers started on one log") };
    assert!(log.contains("another process uses") && log.contains("Never delete `lock`"), "{log}");
    sell(&app, 1);
    assert_eq!(app.balance("ann").as_deref(), Some("2"));
}

/// Once with a request right after the removal, and once without: then only the check of the server finds it.
#[test]
fn no_event_is_acknowledged_once_the_journal_was_removed() {
    for with_request in [true, false] {
        let mut app = TestApp::start();
        app.settled_at_end = false;
        sell(&app, 3);
        app.settle();
        fs::remove_dir_all(app.data().join("journal")).unwrap();
        if with_request {
            let status = app.client().post("/liveEvent", SALE).status;
            assert!(status >= 500, "answered {status}");
        }
        let refusing = || {
            let ready = app.anonymous().get("/ready");
            ready.status == 503 && ready.text().contains("was moved, removed or replaced")
        };
        wait_for("/ready to show the reason", refusing);
        assert_eq!(app.client().post("/liveEvent", SALE).status, 503);
        let failed = "the log has failed: no more events are accepted, and the server stops";
        wait_for("the log line", || app.log_line(failed).is_some());
        assert_eq!(app.stop(), Some(1));
        // The next start does not replace the lost log by a new, empty one without being asked to.
        let log = app.try_restart_with(|_| {}).expect_err("the server started");
        assert!(log.contains("--accept-new-log"), "{log}");
    }
}

#[test]
fn a_stop_after_the_journal_was_removed_exits_with_an_error() {
    let mut app = TestApp::start();
    sell(&app, 1);
    app.settle();
    fs::remove_dir_all(app.data().join("journal")).unwrap();
    assert_eq!(app.stop(), Some(1));
    wait_for("the reason to be logged", || app.log_text().contains("was moved, removed or replaced"));
}

#[test]
fn a_stop_after_the_database_was_removed_exits_with_an_error() {
    if StoreKind::from_env().skip_unless_sqlite("a server's files are its own") {
        return;
    }
    let mut app = TestApp::start();
    sell(&app, 1);
    app.settle();
    fs::remove_file(app.data().join("millrace.db")).unwrap();
    assert_eq!(app.stop(), Some(1));
    app.restart();
    assert_eq!(app.balance("ann").as_deref(), Some("1"));
}

#[test]
fn a_removed_or_truncated_database_ends_the_server_and_is_rebuilt_from_the_log() {
    if StoreKind::from_env().skip_unless_sqlite("a server's files are its own") {
        return;
    }
    for (file, cut) in [("millrace.db", false), ("millrace.db-wal", false), ("millrace.db-wal", true)] {
        let mut app = TestApp::start();
        sell(&app, 3);
        app.settle();
        let path = app.data().join(file);
        if cut {
            fs::OpenOptions::new().write(true).open(path).unwrap().set_len(0).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
        assert_eq!(app.wait_for_exit(), Some(1));
        let logged = || app.log_text().contains("the store has failed") && app.log_text().contains(file);
        wait_for("the reason to be logged", logged);
        app.restart();
        assert_eq!(app.balance("ann").as_deref(), Some("3"));
    }
}

#[test]
fn an_older_database_with_a_newer_wal_is_refused_and_without_it_catches_up() {
    if StoreKind::from_env().skip_unless_sqlite("a server's files are its own") {
        return;
    }
    let mut app = TestApp::start();
    let file = |name: &str| app.folder.path().join(name);
    let (database, older) = (file("data/millrace.db"), file("older.db"));
    sell(&app, 2);
    app.settle();
    assert_eq!(app.stop(), Some(0));
    fs::copy(&database, &older).unwrap();
    for _ in 0..2 {
        app.restart();
        sell(&app, 2);
        app.settle();
        assert_eq!(app.stop(), Some(0));
    }
    app.restart();
    sell(&app, 2);
    app.settle();
    app.kill();
    assert!(with(&database, "-wal").exists());

    fs::copy(&older, &database).unwrap();
    let log = app.try_restart_with(|_| {}).expect_err("the server started");
    assert!(log.contains("do not belong together") && log.contains("millrace.db-wal"), "{log}");
    // The refused start changed no file, so that deleting the WAL is still possible.
    assert!(with(&database, "-wal").exists());
    fs::remove_file(with(&database, "-wal")).unwrap();
    fs::remove_file(with(&database, "-shm")).unwrap();
    app.restart();
    assert_eq!(app.balance("ann").as_deref(), Some("8"));
}

/// Starts a server whose log contains five sales that are forty days old.
fn with_old_sales(retention: &str) -> TestApp {
    let mut app = TestApp::configured(&format!("[retention]\n{retention}\n"));
    sell(&app, 5);
    app.settle();
    assert_eq!(app.stop(), Some(0));
    let file = app.data().join("log-ages.json");
    let mut ages: serde_json::Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    ages["ends"] = serde_json::json!([[ages["now"], 5]]);
    ages["now"] = (ages["now"].as_u64().unwrap() + 40 * 24 * 3_600_000).into();
    fs::write(&file, ages.to_string()).unwrap();
    app.restart();
    app
}

/// Deletes the database. The next start is refused, and succeeds with `--accept-new-log`.
fn lose_the_database(app: &mut TestApp) {
    assert_eq!(app.stop(), Some(0));
    fs::remove_file(app.data().join("millrace.db")).unwrap();
    let log = app.try_restart_with(|_| {}).expect_err("the server started");
    assert!(log.contains("the store holds nothing of this log, whose earlier events were deleted"), "{log}");
    app.restart_with(|start| start.arguments.push("--accept-new-log".to_owned()));
    app.settle();
}

fn begin(app: &TestApp) -> u64 {
    app.anonymous().get("/ready").json()["log"]["begin"].as_u64().unwrap()
}

#[test]
fn a_new_store_with_a_log_from_which_a_stream_was_deleted_is_refused() {
    if StoreKind::from_env().skip_unless_sqlite("a server's files are its own") {
        return;
    }
    let mut app = with_old_sales("streams = { revenue = \"8d\" }");
    wait_for("the stream to be deleted", || {
        app.log_line("retention deleted old events of a stream").is_some()
    });
    assert_eq!(begin(&app), 0);
    lose_the_database(&mut app);
    let refused = app.client().post("/v1/views/revenue/reconcile", "");
    assert_eq!(refused.status, 409, "{}", refused.text());
    app.restart_with(|start| start.arguments.clear());
}

#[test]
fn a_new_store_with_a_log_whose_beginning_was_deleted_is_refused() {
    if StoreKind::from_env().skip_unless_sqlite("a server's files are its own") {
        return;
    }
    let mut app = with_old_sales("log = \"30d\"");
    wait_for("the old events to be deleted", || begin(&app) == 5);
    assert_eq!(app.balance("ann").as_deref(), Some("5"));
    app.restart();
    lose_the_database(&mut app);
    sell(&app, 1);
    assert_eq!(app.balance("ann").as_deref(), Some("1"));
    app.restart_with(|start| start.arguments.clear());
}

fn with(path: &Path, suffix: &str) -> std::path::PathBuf {
    path.with_file_name(format!("{}{suffix}", path.file_name().unwrap().to_str().unwrap()))
}

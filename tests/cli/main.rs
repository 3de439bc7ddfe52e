//! The commands, one file each, as a person at a terminal uses them: the real binary against a real server.

#![allow(clippy::unwrap_used)]

#[path = "../harness/mod.rs"]
mod harness;

mod accept;
mod backup;
mod balance;
mod config;
mod dead_letters;
mod events;
mod exit;
mod export;
mod keys;
mod reconcile;
mod repair;
mod rows;
mod running;
mod stats;
mod status;
mod tail;
mod tls;
mod watch;

use std::process::Output;
use std::sync::Arc;

use harness::{Start, TestApp};
use rusqlite::Connection;

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Runs a command that must succeed, and returns its stdout.
fn run(app: &TestApp, arguments: &[&str]) -> String {
    let output = app.command(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
    stdout(&output)
}

/// Runs a command that must fail with this exit code, and returns its error, which must be one line.
fn failed(app: &TestApp, code: i32, arguments: &[&str]) -> String {
    let output = app.command(arguments);
    let line = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {line}{}", stdout(&output));
    assert_eq!(line.lines().count(), 1, "{line}");
    line
}

fn lines_of_json(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn sell(app: &TestApp, user: &str, value: &str) {
    let body = format!(r#"{{"userId":"{user}","name":"add_revenue","value":{value}}}"#);
    assert_eq!(app.client().post("/liveEvent", &body).status, 200);
}

fn database(app: &TestApp) -> Connection {
    Connection::open(app.data().join("millrace.db")).unwrap()
}

/// Starts a server on a store that contains the ledger's table with these rows already.
fn with_table(rows: &[(&str, &str)]) -> TestApp {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    std::fs::create_dir(folder.path().join("data")).unwrap();
    let store = Connection::open(folder.path().join("data/millrace.db")).unwrap();
    store.execute("CREATE TABLE users_revenue (user_id TEXT PRIMARY KEY, revenue TEXT)", []).unwrap();
    for row in rows {
        store.execute("INSERT INTO users_revenue VALUES (?1, ?2)", *row).unwrap();
    }
    drop(store);
    TestApp::try_with(Start::default(), folder).unwrap_or_else(|log| panic!("did not start:\n{log}"))
}

/// Changes one row directly in the database.
fn set_row(app: &TestApp, user: &str, revenue: &str) {
    let sql = "UPDATE users_revenue SET revenue = ?2 WHERE user_id = ?1";
    assert_eq!(database(app).execute(sql, (user, revenue)).unwrap(), 1);
}

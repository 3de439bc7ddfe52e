//! Backups if the store is on a database server: first a dump with the tools of the database, then millrace's
//! backup, which does not contain the store.

use std::path::Path;
use std::sync::Arc;

use crate::harness::mariadb::Mariadb;
use crate::harness::postgres::Postgres;
use crate::harness::servers::{Kind, Server};
use crate::harness::{Start, StoreKind, TestApp, wait_for};

fn start(folder: Arc<tempfile::TempDir>, url: &str) -> Result<TestApp, String> {
    let start = Start {
        environment: vec![("MILLRACE_STORE".to_owned(), url.to_owned())],
        store_kind: Some(StoreKind::Sqlite),
        ..Start::default()
    };
    TestApp::try_with(start, folder)
}

fn sell(app: &TestApp, user: &str, value: u32) {
    let body = format!(r#"{{"userId":"{user}","name":"add_revenue","value":{value}}}"#);
    assert_eq!(app.client().post("/liveEvent", &body).status, 200);
    app.settle();
}

fn stderr_of(app: &TestApp, arguments: &[&str]) -> String {
    let output = app.command(arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
    stderr
}

fn restored(app: &TestApp, backup: &Path) -> Arc<tempfile::TempDir> {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let data = folder.path().join("data");
    let stderr = stderr_of(app, &["restore", backup.to_str().unwrap(), "--data", data.to_str().unwrap()]);
    assert!(stderr.contains("is not in the backup; a copy of it that is not newer catches up"), "{stderr}");
    folder
}

fn an_older_database_is_caught_up_and_a_newer_one_refused(server: &Server) {
    let url = server.new_database();
    let mut app = start(Arc::new(tempfile::tempdir().unwrap()), &url).unwrap();
    sell(&app, "a", 5);
    let dump = server.dump(&url);
    sell(&app, "a", 7);
    let stderr = stderr_of(&app, &["backup", "all.tar"]);
    assert!(stderr.contains("without the store") && stderr.contains("with its own tools"), "{stderr}");
    sell(&app, "b", 1);
    app.kill();
    let backup = app.folder.path().join("all.tar");

    let older = server.new_database();
    server.sql(&older, &dump);
    let caught_up = start(restored(&app, &backup), &older).unwrap();
    caught_up.settle();
    assert_eq!((caught_up.balance("a").as_deref(), caught_up.balance("b")), (Some("12"), None));

    let refusal = start(restored(&app, &backup), &url).err().unwrap();
    assert!(refusal.contains("the log ends at"), "{refusal}");
}

/// Imitates a fail-over to a server without the last commits, while millrace runs.
fn a_database_restored_under_a_running_server_is_caught_up(server: &Server) {
    let url = server.new_database();
    let app = start(Arc::new(tempfile::tempdir().unwrap()), &url).unwrap();
    let named = |id: &str| {
        let body = format!(r#"{{"id":"{id}","userId":"a","name":"add_revenue","value":7}}"#);
        assert_eq!(app.client().post("/v1/streams/revenue/events", &body).status, 200);
        app.settle();
    };
    named("first");
    let dump = server.dump(&url);
    for id in ["second", "second", "third", "second"] {
        named(id);
    }
    assert_eq!(app.balance("a").as_deref(), Some("21"));
    let emptied = match server.kind {
        Kind::Postgres => "DROP SCHEMA public CASCADE; CREATE SCHEMA public;",
        // Its dumps contain a `DROP TABLE` for each table.
        Kind::Mariadb => "",
    };
    server.sql(&url, &format!("{emptied}{dump}"));
    sell(&app, "b", 1);
    wait_for("the balance", || app.balance("a").as_deref() == Some("21"));
    assert_eq!(app.balance("b").as_deref(), Some("1"));
    named("third");
    assert_eq!(app.balance("a").as_deref(), Some("21"));
}

#[test]
fn on_postgres_a_database_restored_under_a_running_server_is_caught_up() {
    a_database_restored_under_a_running_server_is_caught_up(Postgres::shared());
}

#[test]
fn on_mariadb_a_database_restored_under_a_running_server_is_caught_up() {
    a_database_restored_under_a_running_server_is_caught_up(Mariadb::shared());
}

#[test]
fn on_postgres_an_older_database_is_caught_up_and_a_newer_one_refused() {
    an_older_database_is_caught_up_and_a_newer_one_refused(Postgres::shared());
}

#[test]
fn on_mariadb_an_older_database_is_caught_up_and_a_newer_one_refused() {
    an_older_database_is_caught_up_and_a_newer_one_refused(Mariadb::shared());
}

//! `millrace send` and `millrace generate`, against the real server.

#![allow(clippy::unwrap_used)]

#[path = "../harness/mod.rs"]
mod harness;

mod files;
mod follow;
mod generate;
mod interrupted;
mod once;
mod rejected;
mod streams;

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use harness::TestApp;
use serde_json::Value;

/// Returns the lines `from..to`. Each adds its number to the balance of `u1`.
pub fn sales(from: u64, to: u64) -> String {
    (from..to).map(sale).collect()
}

pub fn sale(value: u64) -> String {
    format!("{{\"userId\":\"u1\",\"name\":\"add_revenue\",\"value\":{value}}}\n")
}

pub fn sum(from: u64, to: u64) -> u64 {
    (from..to).sum()
}

pub fn write(app: &TestApp, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = app.folder.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    path
}

pub fn append(app: &TestApp, name: &str, content: impl AsRef<[u8]>) {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().append(true).open(app.folder.path().join(name)).unwrap();
    file.write_all(content.as_ref()).unwrap();
}

/// Runs `millrace send --json`, and returns its exit code and its outcome.
pub fn send(app: &TestApp, arguments: &[&str]) -> (i32, Value) {
    let output = app.command(&[&["send", "--json"], arguments].concat());
    (output.status.code().unwrap(), outcome(&output))
}

pub fn outcome(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{}", stderr(output)))
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Starts a `millrace send` process that runs during the test.
pub fn start(app: &TestApp, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_millrace"))
        .current_dir(app.folder.path())
        .env_clear()
        .env("MILLRACE_URL", format!("http://{}", app.address))
        .args(["send", "--json"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Returns the number of events in the log, repeats included.
pub fn stored(app: &TestApp) -> u64 {
    app.anonymous().get("/ready").json()["log"]["end"].as_u64().unwrap()
}

/// Returns the balance of `u1`, or 0 without a row.
pub fn balance(app: &TestApp) -> u64 {
    app.balance("u1").map_or(0, |balance| balance.parse().unwrap())
}

/// Returns the number of dead letters: here, lines that were sent before with different content.
pub fn open_dead_letters(app: &TestApp) -> usize {
    app.client().get("/v1/dead-letters").json()["deadLetters"].as_array().unwrap().len()
}

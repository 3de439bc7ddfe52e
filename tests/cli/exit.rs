//! Behaviour that all commands share: help, exit codes, completions.

use std::net::TcpListener;

use crate::harness::TestApp;
use crate::{failed, run, stderr};

const COMMANDS: [&str; 10] = [
    "serve",
    "balance",
    "tail",
    "dead-letters",
    "keys",
    "reconcile",
    "rebuild",
    "repair",
    "config",
    "completions",
];

#[test]
fn without_a_command_help_is_shown_with_the_exit_codes() {
    let app = TestApp::start();
    let output = app.command(&[]);
    assert_eq!(output.status.code(), Some(2));
    let help = stderr(&output);
    assert_eq!(help, run(&app, &["--help"]));
    assert!(help.contains("Exit codes:") && help.contains("7  a comparison found differences"), "{help}");
    for command in COMMANDS {
        assert!(help.contains(&format!("\n  {command} ")), "{command}");
        assert!(run(&app, &[command, "--help"]).contains("Usage: millrace"), "{command}");
    }
}

#[test]
fn exit_codes_distinguish_usage_connection_and_key_errors() {
    let app = TestApp::start();
    assert_eq!(app.command(&["balance", "--url", "localhost:8000"]).status.code(), Some(2));
    assert_eq!(app.command(&["dead-letters", "retry"]).status.code(), Some(2));
    let listener = TcpListener::bind("localhost:0").unwrap();
    let nobody = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let line = failed(&app, 3, &["balance", "--url", &nobody]);
    assert!(line.contains(&nobody) && line.contains("`millrace serve`"), "{line}");
    assert!(failed(&app, 4, &["balance", "--key", "wrong"]).contains("does not know this key"));
    assert!(failed(&app, 4, &["tail", "--data", "elsewhere"]).contains("requires a key"));
}

#[test]
fn completions_contain_the_commands() {
    let app = TestApp::start();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&app, &["completions", shell]);
        assert!(script.contains("millrace") && script.contains("reconcile"), "{shell}");
    }
}

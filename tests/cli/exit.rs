//! Behaviour that all commands share: help, exit codes, completions.

use std::net::TcpListener;

use crate::harness::TestApp;
use crate::{failed, run, stderr};

/// The commands that work without a server.
const LOCAL: [&str; 6] = ["serve", "generate", "restore", "repair", "config", "completions"];

/// The commands without `--json`: the server, and those that print text in another language.
const WITHOUT_JSON: [&[&str]; 3] = [&["serve"], &["config", "default"], &["completions"]];

#[test]
fn without_a_command_help_is_shown_with_the_exit_codes() {
    let app = TestApp::start();
    let output = app.command(&[]);
    assert_eq!(output.status.code(), Some(2));
    let help = stderr(&output);
    assert_eq!(help, run(&app, &["--help"]));
    assert!(help.contains("Exit codes:") && help.contains("7  a comparison found differences"), "{help}");
}

/// Returns the names of the subcommands in a help text.
fn subcommands(help: &str) -> Vec<String> {
    let Some((_, rest)) = help.split_once("\nCommands:\n") else { return Vec::new() };
    let lines = rest.lines().take_while(|line| !line.is_empty());
    // The names are indented by two spaces, and the lines that continue a text by more.
    let names = lines.filter_map(|line| {
        line.strip_prefix("  ")?.split_whitespace().next().filter(|_| !line.starts_with("   "))
    });
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

/// Returns all commands that have no subcommands, each with its help.
fn commands(app: &TestApp) -> Vec<(Vec<String>, String)> {
    let (mut found, mut waiting) = (Vec::new(), vec![Vec::new()]);
    while let Some(command) = waiting.pop() {
        let arguments: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
        let help = run(app, &arguments);
        let below = subcommands(&help);
        if below.is_empty() {
            found.push((command, help));
        } else {
            waiting.extend(below.into_iter().map(|name| [command.as_slice(), &[name]].concat()));
        }
    }
    found
}

#[test]
fn the_options_of_the_server_and_json_are_the_same_everywhere() {
    let app = TestApp::start();
    let commands = commands(&app);
    assert!(commands.len() > 30, "{commands:?}");
    for (command, help) in &commands {
        assert!(help.contains("Usage: millrace"), "{command:?}: {help}");
        if !LOCAL.contains(&command[0].as_str()) {
            for option in ["--url <URL>", "--key <KEY>", "--data <DIR>", "--cacert <FILE>", "--insecure"] {
                assert!(help.contains(option), "{command:?} lacks `{option}`: {help}");
            }
        }
        if WITHOUT_JSON.iter().any(|names| names.iter().eq(command.iter())) {
            continue;
        }
        let form = help.split("\n      --json").nth(1).unwrap_or_else(|| panic!("{command:?}: {help}"));
        let form = form.trim_start();
        assert!(form.starts_with("Print JSON Lines") || form.starts_with("Print one JSON object"), "{form}");
    }
}

#[test]
fn names_of_earlier_commands_are_refused() {
    let app = TestApp::start();
    for name in
        ["balance", "stats", "reconcile", "rebuild", "drop-view", "dead-letters", "notifications", "keys"]
    {
        assert_eq!(app.command(&[name]).status.code(), Some(2), "{name}");
    }
}

#[test]
fn exit_codes_distinguish_usage_connection_and_key_errors() {
    let app = TestApp::start();
    assert_eq!(
        app.command(&["view", "balance", "revenue", "--url", "localhost:8000"]).status.code(),
        Some(2)
    );
    assert_eq!(app.command(&["dead-letter", "retry"]).status.code(), Some(2));
    let listener = TcpListener::bind("localhost:0").unwrap();
    let nobody = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let line = failed(&app, 3, &["view", "balance", "revenue", "--url", &nobody]);
    assert!(line.contains(&nobody) && line.contains("`millrace serve`"), "{line}");
    assert!(
        failed(&app, 4, &["view", "balance", "revenue", "--key", "wrong"])
            .contains("the key is unknown, expired or revoked")
    );
    assert!(failed(&app, 4, &["tail", "revenue", "--data", "elsewhere"]).contains("requires a key"));
}

#[test]
fn completions_contain_the_commands() {
    let app = TestApp::start();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&app, &["completions", shell]);
        assert!(script.contains("millrace") && script.contains("reconcile"), "{shell}");
    }
}

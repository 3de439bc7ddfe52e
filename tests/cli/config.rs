//! `millrace config`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::Arc;

use serde_json::Value;

use crate::harness::{Start, TestApp, free_port};
use crate::{run, sell, stderr, stdout};

const SECOND: &str = "
[stream.refunds]
key = \"who\"
fields.who = { type = \"text\", required = true }
fields.cents = { type = \"integer\", required = true }
[view.refunds]
kind = \"ledger\"
from = \"refunds\"
amount = \"-cents\"
";

#[test]
fn the_printed_configuration_starts_a_server() {
    let app = TestApp::configured(SECOND);
    let whole = run(&app, &["config", "show"]);
    assert!(whole.contains("[view.refunds]") && whole.contains("[view.revenue]"), "{whole}");
    drop(app);
    let app = TestApp::configured(&whole);
    let again = run(&app, &["config", "show"]);
    assert_eq!(again, whole);
    sell(&app, "user1", "1");
    app.settle();
    assert_eq!(run(&app, &["view", "balance", "revenue", "user1"]), "1\n");
}

#[test]
fn the_password_of_the_store_url_is_not_printed() {
    let app = TestApp::start();
    let file = "[store]\nurl = \"postgres://shop:hidden-word@db.example/shop?sslmode=require\"\n";
    std::fs::write(app.folder.path().join("mine.toml"), file).unwrap();
    let whole = run(&app, &["config", "show", "--config", "mine.toml"]);
    assert!(whole.contains("postgres://shop:***@db.example/shop?sslmode=require"), "{whole}");
    assert!(whole.contains("`***` replaces the store's password"), "{whole}");
    assert!(!whole.contains("hidden-word"), "{whole}");
}

#[test]
fn a_file_without_presets_and_streams_is_named_as_such_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("millrace.toml"), "[dedup]\nwindow = \"3d\"\n").unwrap();
    let app = TestApp::with_folder(Start::default(), Arc::new(folder));
    assert!(app.log_text().contains("no stream is configured, so no event can be accepted"));
    assert!(run(&app, &["config", "show"]).contains("millrace.toml; presets: none."));
}

#[test]
fn the_default_configuration_is_printed_with_its_comments() {
    let app = TestApp::start();
    let default = run(&app, &["config", "default"]);
    assert!(default.starts_with("# The configuration of millrace"), "{default}");
    std::fs::write(app.folder.path().join("copy.toml"), &default).unwrap();
    // The copy contains the presets' sections itself, so it does not need the `presets` line.
    let outcome = |arguments: &[&str]| {
        let text = run(&app, arguments);
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("presets ="));
        lines.collect::<Vec<_>>().join("\n")
    };
    assert_eq!(outcome(&["config", "show", "--config", "copy.toml"]), outcome(&["config", "show"]));
}

/// Runs a command that must find errors in the configuration, and returns their lines.
fn errors(app: &TestApp, arguments: &[&str]) -> Vec<String> {
    let output = app.command(arguments);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(8), "{arguments:?}: {text}{}", stdout(&output));
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let summary = lines.pop().unwrap();
    assert!(summary.starts_with("millrace: the configuration has "), "{text}");
    lines
}

#[test]
fn all_errors_are_printed_with_file_line_and_column() {
    let app = TestApp::start();
    let text = "listen = [\"localhost:1\"]\nlisen = []\n[dedup]\nwindow = \"soon\"\n";
    std::fs::write(app.folder.path().join("wrong.toml"), text).unwrap();
    for action in ["show", "check"] {
        let lines = errors(&app, &["config", action, "--config", "wrong.toml"]);
        assert!(
            lines[0]
                .starts_with("wrong.toml:2:1: `lisen` is not a setting or section; did you mean `listen`?")
        );
        assert!(lines[1].starts_with("wrong.toml:4:10: `[dedup]`, `window`: `soon` is not a duration"));
        assert_eq!(lines.len(), 2);
    }
    let lines = errors(&app, &["config", "check", "--config", "none.toml"]);
    assert!(lines[0].starts_with("none.toml: the file cannot be read"), "{lines:?}");
    std::fs::write(app.folder.path().join("syntax.toml"), "a = 1 2\n[log]\nurl = journal\n").unwrap();
    let lines = errors(&app, &["config", "check", "--config", "syntax.toml"]);
    assert!(
        lines.iter().any(|line| line.starts_with("syntax.toml:3:7: a text must be in quotes")),
        "{lines:?}"
    );
    assert_eq!(run(&app, &["config", "check"]), "");
}

#[test]
fn the_check_says_everything_that_a_server_says_before_it_opens_log_and_store() {
    let app = TestApp::start();
    let text = r#"presets = ["revenue", "analytics"]
listen = ["0.0.0.0:8123", "https://0.0.0.0:8124"]
[log]
url = "jurnal:"
[store]
url = "postgress://x/y"
[tls]
certificate = "none.pem"
key = "none.key"
[source.live_event]
access = "open"
answer = '{"id":"{order.id}"}'
[read.stats]
access = "open"
"#;
    std::fs::write(app.folder.path().join("wrong.toml"), text).unwrap();
    let checked = errors(&app, &["config", "check", "--config", "wrong.toml"]);
    let expected = [
        "wrong.toml:2:11: http://0.0.0.0:8123 is reachable from other machines but not encrypted",
        "wrong.toml:4:7: `[log] url = \"jurnal:\"` is not supported",
        "wrong.toml:6:7: `[store] url` starts with `postgress:`, which is not a supported store; did you mean `postgres:`?",
        "wrong.toml:8:15: `[tls]`: `none.pem` cannot be read",
        "wrong.toml:9:7: `[tls]`: `none.key` cannot be read",
        "wrong.toml:12:10: source `live_event`, `answer`: the text contains `{order.id}`, which is not a placeholder",
        "wrong.toml:14:10: read `stats` is open, and http://0.0.0.0:8123 is reachable from other machines",
    ];
    for (line, expected) in checked.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line}\n  is not {expected}");
    }
    assert_eq!(checked.len(), expected.len(), "{checked:?}");
    let log = ["--log-level", "error"];
    assert_eq!(errors(&app, &[&["serve", "--config", "wrong.toml"][..], &log].concat()), checked);
    // The options of a server change what it may do.
    let behind = errors(&app, &["config", "check", "--config", "wrong.toml", "--behind-proxy"]);
    assert_eq!(behind, checked[1..]);
    assert!(
        errors(&app, &["config", "check", "--listen", "0.0.0.0:1"])[0]
            .starts_with("--listen or MILLRACE_LISTEN: ")
    );
    assert!(
        errors(&app, &["config", "check", "--listen", "[::]:1", "--dev"])
            .iter()
            .any(|line| line.contains("`--dev` opens"))
    );
}

#[test]
fn the_env_file_is_named_with_what_it_decides_and_can_be_turned_off() {
    let app = TestApp::start();
    let dotenv = "DB_URL=mysql://shop:hidden-word@db/shopdb\nPORT=3333\nAPI_PORT=3334\nAPI_KEY=hidden-word\n";
    std::fs::write(app.folder.path().join(".env"), dotenv).unwrap();
    let checked = stderr(&app.command(&["config", "check"]));
    for line in [
        "store: mysql://shop@db/shopdb, from DB_URL in .env",
        "port: 3333, from PORT in .env",
        "API key: accepted besides the keys of this server, from API_KEY in .env",
        "warning: `API_PORT` names another port than PORT in .env, which is used",
    ] {
        assert!(checked.lines().any(|shown| shown == line), "no {line}\n{checked}");
    }
    let shown = run(&app, &["config", "show"]);
    assert!(
        shown.contains("url = \"mysql://shop:***@db/shopdb\"") && shown.contains("localhost:3333"),
        "{shown}"
    );
    assert!(!format!("{checked}{shown}").contains("hidden-word"), "{checked}{shown}");
    for arguments in [["config", "show", "--no-env-file"], ["--no-env-file", "config", "show"]] {
        let shown = run(&app, &arguments);
        assert!(shown.contains("url = \"sqlite:\"") && !shown.contains(".env"), "{shown}");
    }
    let beyond = errors(&app, &["config", "check", "--listen", "0.0.0.0:1", "--behind-proxy"]);
    assert!(beyond[0].starts_with("API_KEY in .env: `API_KEY` is shorter than 20 characters"), "{beyond:?}");
}

#[test]
fn commands_take_the_port_from_the_env_file_unless_it_is_turned_off() {
    let app = TestApp::start();
    std::fs::write(app.folder.path().join(".env"), "PORT=1\n").unwrap();
    let asked =
        |arguments: &[&str]| stderr(&app.prepared(arguments).env_remove("MILLRACE_URL").output().unwrap());
    let answer = asked(&["view", "list"]);
    assert!(answer.contains("no answer from http://localhost:1:"), "{answer}");
    for arguments in [["view", "list", "--no-env-file"], ["--no-env-file", "view", "list"]] {
        // Another server may use the default port of this machine. It refuses the key of this folder.
        let answer = asked(&arguments);
        let asked_default = ["no answer from http://localhost:8000:", "key"];
        assert!(asked_default.iter().any(|part| answer.contains(part)), "{answer}");
        assert!(!answer.contains("http://localhost:1:"), "{answer}");
    }
}

#[test]
fn the_greeting_names_the_settings_from_the_env_file() {
    let app = TestApp::start();
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    std::fs::write(folder.path().join(".env"), format!("PORT={port}\nAPI_KEY=hidden-word\n")).unwrap();
    let mut server = app
        .prepared(&["serve", "--log-level", "error"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(server.stdout.take().unwrap()).lines().map_while(Result::ok);
    let greeting: Vec<String> = lines.take_while(|line| !line.starts_with("Send an event")).collect();
    server.kill().unwrap();
    server.wait().unwrap();
    let greeting = greeting.join("\n");
    assert!(greeting.contains(&format!("port: {port}, from PORT in .env")), "{greeting}");
    assert!(greeting.contains("from API_KEY in .env") && !greeting.contains("hidden-word"), "{greeting}");
}

#[test]
fn the_check_of_the_store_lists_the_faults_of_tables_and_creates_no_file() {
    let app = TestApp::start();
    let check = |data: &str, options: &[&str]| {
        let arguments = [&["config", "check", "--store", "--data", data], options].concat();
        // Only the file in this data folder is checked, whatever database the tests use.
        app.prepared(&arguments).output().unwrap()
    };
    let files = |data: &str| {
        let entries = std::fs::read_dir(app.folder.path().join(data)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    let missing = check("none", &[]);
    assert_eq!(missing.status.code(), Some(0), "{}", stderr(&missing));
    assert!(stderr(&missing).contains("the database does not exist yet: sqlite:none/millrace.db"));
    assert!(!app.folder.path().join("none").exists());

    std::fs::create_dir(app.folder.path().join("other")).unwrap();
    let path = app.folder.path().join("other/millrace.db");
    let database = rusqlite::Connection::open(&path).unwrap();
    database.execute("CREATE TABLE users_revenue (user_id TEXT PRIMARY KEY)", []).unwrap();
    drop(database);
    let before = std::fs::read(&path).unwrap();
    let found = check("other", &[]);
    assert_eq!(found.status.code(), Some(7), "{}", stderr(&found));
    let faults = stdout(&found);
    assert!(faults.starts_with("view `revenue`: table `users_revenue` "), "{faults}");
    assert_eq!(faults.lines().count(), 1, "{faults}");
    let text = stderr(&found);
    assert!(text.contains("1 table in sqlite:other/millrace.db cannot be used as it is"), "{text}");
    let json = check("other", &["--json"]);
    assert_eq!(json.status.code(), Some(7), "{}", stderr(&json));
    let json: Value = serde_json::from_str(&stdout(&json)).unwrap();
    let fault = &json["store"]["faults"][0];
    assert_eq!((&json["valid"], &json["store"]["exists"]), (&true.into(), &true.into()));
    assert_eq!((&fault["view"], &fault["table"]), (&"revenue".into(), &"users_revenue".into()));
    assert!(!fault["problems"].as_array().unwrap().is_empty(), "{json}");
    assert_eq!((files("other"), std::fs::read(&path).unwrap()), (vec!["millrace.db".to_owned()], before));

    let help = run(&app, &["config", "check", "--help"]);
    assert!(help.contains("MILLRACE_LOG and MILLRACE_STORE"), "{help}");
}

#[test]
fn the_configuration_and_its_errors_are_printed_as_json() {
    let app = TestApp::configured(SECOND);
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let shown = json(&run(&app, &["config", "show", "--json"]));
    assert_eq!((&shown["file"], &shown["presets"][0]), (&"millrace.toml".into(), &"revenue".into()));
    let views = &shown["configuration"]["view"];
    assert_eq!(
        (&views["refunds"]["amount"], &views["revenue"]["kind"]),
        (&"-cents".into(), &"ledger".into())
    );

    let valid = json(&run(&app, &["config", "check", "--json", "--dev"]));
    assert_eq!((&valid["valid"], &valid["errors"]), (&true.into(), &serde_json::json!([])));
    assert!(valid["warnings"][0].as_str().unwrap().starts_with("--dev: "), "{valid}");
    assert!(valid["store"].is_null(), "{valid}");

    std::fs::write(app.folder.path().join("wrong.toml"), "lisen = []\n[dedup]\nwindow = \"soon\"\n").unwrap();
    let output = app.command(&["config", "check", "--config", "wrong.toml", "--listen", "nowhere", "--json"]);
    assert_eq!(output.status.code(), Some(8), "{}", stderr(&output));
    let wrong = json(&stdout(&output));
    assert_eq!((&wrong["valid"], &wrong["file"]), (&false.into(), &"wrong.toml".into()));
    let errors = wrong["errors"].as_array().unwrap();
    let at = |file: &str| errors.iter().filter(|error| error["file"] == file).collect::<Vec<_>>();
    let [first, second] = at("wrong.toml")[..] else { panic!("{wrong}") };
    assert_eq!((&first["line"], &first["column"]), (&1.into(), &1.into()));
    assert!(first["reason"].as_str().unwrap().starts_with("`lisen` is not a setting"), "{wrong}");
    assert_eq!((&second["line"], &second["column"]), (&3.into(), &10.into()));
    let [outside] = at("--listen or MILLRACE_LISTEN")[..] else { panic!("{wrong}") };
    assert!(outside["line"].is_null() && outside["column"].is_null(), "{wrong}");
}

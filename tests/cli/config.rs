//! `millrace config`.

use std::sync::Arc;

use crate::harness::{Start, TestApp};
use crate::{failed, run, sell};

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
    let whole = run(&app, &["config"]);
    assert!(whole.contains("[view.refunds]") && whole.contains("[view.revenue]"), "{whole}");
    drop(app);
    let app = TestApp::configured(&whole);
    let again = run(&app, &["config"]);
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
    let whole = run(&app, &["config", "--config", "mine.toml"]);
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
    assert!(run(&app, &["config"]).contains("millrace.toml; presets: none."));
}

#[test]
fn the_default_configuration_is_printed_with_its_comments() {
    let app = TestApp::start();
    let default = run(&app, &["config", "--default"]);
    assert!(default.starts_with("# The configuration of millrace"), "{default}");
    std::fs::write(app.folder.path().join("copy.toml"), &default).unwrap();
    // The copy contains the presets' sections itself, so it does not need the `presets` line.
    let outcome = |arguments: &[&str]| {
        let text = run(&app, arguments);
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("presets ="));
        lines.collect::<Vec<_>>().join("\n")
    };
    assert_eq!(outcome(&["config", "--config", "copy.toml"]), outcome(&["config"]));
}

#[test]
fn an_error_is_one_line_with_file_and_line_number() {
    let app = TestApp::start();
    std::fs::write(app.folder.path().join("wrong.toml"), "listen = []\nlisen = []\n").unwrap();
    for arguments in
        [&["config", "--config", "wrong.toml"][..], &["config", "--check", "--config", "wrong.toml"]]
    {
        let line = failed(&app, 1, arguments);
        assert!(line.starts_with("millrace: wrong.toml:2: unknown field `lisen`"), "{line}");
    }
    assert!(failed(&app, 1, &["config", "--config", "none.toml"]).contains("none.toml"));
    assert_eq!(run(&app, &["config", "--check"]), "");
}

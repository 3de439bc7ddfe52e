//! `millrace config`.

use crate::harness::TestApp;
use crate::{failed, said, sell};

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
fn what_is_printed_can_be_started_with() {
    let app = TestApp::configured(SECOND);
    let whole = said(&app, &["config"]);
    assert!(whole.contains("[view.refunds]") && whole.contains("[view.revenue]"), "{whole}");
    drop(app);
    let app = TestApp::configured(&whole);
    let again = said(&app, &["config"]);
    assert_eq!(again, whole);
    sell(&app, "user1", "1");
    app.settle();
    assert_eq!(said(&app, &["balance", "user1"]), "1\n");
}

#[test]
fn the_password_in_the_store_s_url_is_not_printed() {
    let app = TestApp::start();
    let file = "[store]\nurl = \"postgres://shop:hidden-word@db.example/shop?sslmode=require\"\n";
    std::fs::write(app.folder.path().join("mine.toml"), file).unwrap();
    let whole = said(&app, &["config", "--config", "mine.toml"]);
    assert!(whole.contains("postgres://shop:***@db.example/shop?sslmode=require"), "{whole}");
    assert!(whole.contains("`***` replaces the store's password"), "{whole}");
    assert!(!whole.contains("hidden-word"), "{whole}");
}

#[test]
fn the_default_is_the_reference_with_its_comments() {
    let app = TestApp::start();
    let default = said(&app, &["config", "--default"]);
    assert!(default.starts_with("# The configuration of millrace"), "{default}");
    std::fs::write(app.folder.path().join("copy.toml"), &default).unwrap();
    // All of it stands in the copy, so that it needs no presets.
    let outcome = |arguments: &[&str]| {
        let text = said(&app, arguments);
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("presets ="));
        lines.collect::<Vec<_>>().join("\n")
    };
    assert_eq!(outcome(&["config", "--config", "copy.toml"]), outcome(&["config"]));
}

#[test]
fn what_is_wrong_is_one_line_with_its_place() {
    let app = TestApp::start();
    std::fs::write(app.folder.path().join("wrong.toml"), "listen = []\nlisen = []\n").unwrap();
    for arguments in
        [&["config", "--config", "wrong.toml"][..], &["config", "--check", "--config", "wrong.toml"]]
    {
        let line = failed(&app, 1, arguments);
        assert!(line.starts_with("millrace: wrong.toml:2: unknown field `lisen`"), "{line}");
    }
    assert!(failed(&app, 1, &["config", "--config", "none.toml"]).contains("none.toml"));
    assert_eq!(said(&app, &["config", "--check"]), "");
}

//! Dead letters that somebody sends again, mended or not: what is said yes to is what comes into the view, once.

use serde_json::json;

use crate::harness::{TestApp, configure, wait_for};

const EVENTS: &str = "/v1/streams/refunds/events";
const STREAM: &str = "[stream.refunds]\nkey = \"who\"\nfields.who = { type = \"text\", required = true }\n\
                      fields.cents = { type = \"integer\", required = true }\n";
const VIEW: &str = "[view.refunds]\nkind = \"ledger\"\nfrom = \"refunds\"\namount = \"+cents\"\n";

fn refund(cents: u32) -> String {
    json!({ "who": "c", "cents": cents }).to_string()
}

/// A server with one open letter, of 5 cents, whose view would take it now. The path to send it again.
fn with_a_dead_letter() -> (TestApp, String) {
    let app = TestApp::configured(&format!("{STREAM}{VIEW}"));
    let send =
        |cents| assert_eq!(app.client().post(&format!("{EVENTS}?wait=applied"), &refund(cents)).status, 200);
    send(1);
    app.stored.refuse("refunds", "who", "c");
    send(5);
    app.stored.accept_again("refunds");
    let letters = app.client().get("/v1/dead-letters?status=open").json();
    let letter = letters["deadLetters"][0]["id"].as_str().unwrap_or_else(|| panic!("{letters}"));
    let path = format!("/v1/dead-letters/{letter}/retry");
    (app, path)
}

fn balance(app: &TestApp) -> i64 {
    app.client().get("/v1/views/refunds/balances/c").json()["balance"].as_i64().unwrap()
}

#[test]
fn a_dead_letter_under_way_is_not_sent_again_with_another_text() {
    let (app, path) = with_a_dead_letter();
    app.sql("ALTER TABLE refunds RENAME TO away");
    let send = |body: &str| app.client().post(&path, body);
    let first = send(&refund(10));
    assert_eq!((first.status, &first.json()["status"]), (200, &json!("retrying")));
    let end = app.log_end();
    let other = send(&refund(20));
    assert_eq!(other.status, 409, "it would be left out without a word: {}", other.text());
    assert!(other.text().contains("with another text"), "{}", other.text());
    assert_eq!(send(&refund(10)).status, 200, "the same again says the same");
    assert_eq!(app.log_end(), end, "and is in the log already");
    wait_for("the view to pause", || app.view("refunds")["paused"].is_string());
    app.sql("ALTER TABLE away RENAME TO refunds");
    app.settle();
    assert_eq!(balance(&app), 11);
    assert_eq!(send(&refund(20)).status, 409, "it is applied");
}

#[test]
fn a_dead_letter_of_a_view_that_does_not_run_is_not_sent_into_nothing() {
    let (mut app, path) = with_a_dead_letter();
    let declare = |app: &mut TestApp, config: &str| {
        configure(app.folder.path(), config);
        app.restart();
    };
    declare(&mut app, STREAM);
    let end = app.log_end();
    let sent = app.client().post(&path, "");
    assert_eq!(sent.status, 409, "{}", sent.text());
    assert!(sent.text().contains("view `refunds` does not run here"), "{}", sent.text());
    assert_eq!(app.log_end(), end);
    declare(&mut app, &format!("{STREAM}{VIEW}"));
    assert_eq!(app.client().post(&path, "").status, 200);
    app.settle();
    assert_eq!(balance(&app), 6);
}

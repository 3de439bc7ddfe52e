//! Dead letters that somebody retries, corrected or unchanged. The view applies exactly the text that was
//! acknowledged, once.

use serde_json::json;

use crate::harness::{TestApp, configure, wait_for};

const EVENTS: &str = "/v1/streams/refunds/events";
const STREAM: &str = "[stream.refunds]\nkey = \"who\"\nfields.who = { type = \"text\", required = true }\n\
                      fields.cents = { type = \"integer\", required = true }\n";
const VIEW: &str = "[view.refunds]\nkind = \"ledger\"\nfrom = \"refunds\"\namount = \"+cents\"\n";

fn refund(cents: u32) -> String {
    json!({ "who": "c", "cents": cents }).to_string()
}

/// Starts a server with one open dead letter of 5 cents, which its view would accept now. Also returns the
/// path to retry it.
fn with_a_dead_letter() -> (TestApp, String) {
    let app = TestApp::configured(&format!("{STREAM}{VIEW}"));
    let send =
        |cents| assert_eq!(app.client().post(&format!("{EVENTS}?wait=applied"), &refund(cents)).status, 200);
    send(1);
    app.stored.refuse("refunds", "who", "c");
    send(5);
    app.stored.stop_refusing("refunds");
    let dead_letters = app.client().get("/v1/dead-letters?status=open").json();
    let dead_letter =
        dead_letters["deadLetters"][0]["id"].as_str().unwrap_or_else(|| panic!("{dead_letters}"));
    let path = format!("/v1/dead-letters/{dead_letter}/retry");
    (app, path)
}

fn balance(app: &TestApp) -> i64 {
    app.client().get("/v1/views/refunds/balances/c").json()["balance"].as_i64().unwrap()
}

#[test]
fn a_dead_letter_being_retried_cannot_be_retried_with_another_text() {
    let (app, path) = with_a_dead_letter();
    app.sql("ALTER TABLE refunds RENAME TO away");
    let send = |body: &str| app.client().post(&path, body);
    let first = send(&refund(10));
    assert_eq!((first.status, &first.json()["status"]), (200, &json!("retrying")));
    let end = app.log_end();
    let other = send(&refund(20));
    assert_eq!(other.status, 409, "it would be dropped silently: {}", other.text());
    assert!(other.text().contains("with another text"), "{}", other.text());
    assert_eq!(send(&refund(10)).status, 200, "the same retry is acknowledged again");
    assert_eq!(app.log_end(), end, "the same retry is in the log already");
    wait_for("the view to pause", || app.view("refunds")["state"] == "paused");
    app.sql("ALTER TABLE away RENAME TO refunds");
    app.settle();
    assert_eq!(balance(&app), 11);
    assert_eq!(send(&refund(20)).status, 409, "the dead letter is applied already");
}

#[test]
fn a_dead_letter_of_a_view_that_is_not_configured_cannot_be_retried() {
    let (mut app, path) = with_a_dead_letter();
    let declare = |app: &mut TestApp, config: &str| {
        configure(app.folder.path(), config);
        app.restart();
    };
    declare(&mut app, STREAM);
    let end = app.log_end();
    let sent = app.client().post(&path, "");
    assert_eq!(sent.status, 409, "{}", sent.text());
    assert!(sent.text().contains("view `refunds` is not running on this server"), "{}", sent.text());
    assert_eq!(app.log_end(), end);
    declare(&mut app, &format!("{STREAM}{VIEW}"));
    assert_eq!(app.client().post(&path, "").status, 200);
    app.settle();
    assert_eq!(balance(&app), 6);
}

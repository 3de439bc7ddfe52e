//! `millrace key`.

use crate::harness::{Answer, Client, TestApp};
use crate::{failed, lines_of_json, run, sell, stderr, stdout};

const REFUNDS: &str = r#"
[stream.refunds]
key = "userId"
fields.userId = { type = "text", required = true }
fields.cents = { type = "integer", required = true }
[view.refunds]
kind = "ledger"
from = "refunds"
amount = "+cents"
"#;
const SALE: &str = r#"{"userId":"user1","name":"add_revenue","value":1}"#;
const REFUND: &str = r#"{"userId":"user1","cents":1}"#;

/// Creates a key and returns it. Stdout contains nothing but the key.
fn add(app: &TestApp, arguments: &[&str]) -> String {
    let output = app.command(&[&["key", "add"], arguments].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("cannot be shown again"));
    let literal = stdout(&output).trim_end().to_owned();
    assert!(literal.starts_with("mr_") && !literal.contains(char::is_whitespace), "{literal}");
    literal
}

fn post(app: &TestApp, key: &str, stream: &str, body: &str) -> Answer {
    let client = Client::new(&app.address).with_header("Authorization", key);
    client.post(&format!("/v1/streams/{stream}/events"), body)
}

#[test]
fn a_key_can_do_what_it_was_created_for_until_it_is_revoked() {
    let app = TestApp::configured(REFUNDS);
    let sender = add(&app, &["shop", "--scopes", "send", "--stream", "refunds"]);
    assert_eq!(post(&app, &sender, "refunds", REFUND).status, 200);
    assert_eq!(post(&app, &sender, "revenue", SALE).status, 403);
    app.settle();
    assert!(failed(&app, 4, &["view", "balance", "refunds", "--key", &sender]).contains("may not do that"));
    failed(&app, 4, &["key", "list", "--key", &sender]);

    let reader = add(&app, &["desk", "--scopes", "read", "--stream", "refunds"]);
    assert_eq!(run(&app, &["view", "balance", "refunds", "user1", "--key", &reader]), "1\n");
    failed(&app, 4, &["view", "balance", "revenue", "--key", &reader]);
    assert_eq!(post(&app, &reader, "refunds", REFUND).status, 403);

    let listed = run(&app, &["key", "list"]);
    assert!(listed.contains("shop") && !listed.contains(&sender), "{listed}");
    let keys = lines_of_json(&run(&app, &["key", "list", "--json"]));
    let shop = keys.iter().find(|key| key["name"] == "shop").unwrap();
    run(&app, &["key", "revoke", shop["id"].as_str().unwrap()]);
    assert_eq!(post(&app, &sender, "refunds", REFUND).status, 401);
    assert!(
        failed(&app, 4, &["view", "balance", "revenue", "--key", &sender])
            .contains("the key is unknown, expired or revoked; set another key with `--key`")
    );
    failed(&app, 5, &["key", "revoke", shop["id"].as_str().unwrap()]);
}

#[test]
fn a_key_for_one_row_reads_that_row_and_nothing_else() {
    let app = TestApp::start();
    sell(&app, "user1", "1");
    sell(&app, "user2", "2");
    app.settle();
    let key = add(&app, &["page", "--scopes", "read", "--view-key", "user1"]);
    assert_eq!(run(&app, &["view", "balance", "revenue", "user1", "--key", &key]), "1\n");
    let client = Client::new(&app.address).with_header("Authorization", &key);
    assert_eq!((client.get("/userEvents/user1").status, client.get("/userEvents/user2").status), (200, 403));
    let receipt =
        lines_of_json(&run(&app, &["tail", "revenue", "--json"]))[1]["id"].as_str().unwrap().to_owned();
    assert_eq!(client.get(&format!("/v1/events/{receipt}")).status, 403);
    for command in [
        &["view", "balance", "revenue", "user2"][..],
        &["view", "balance", "revenue"],
        &["tail", "revenue"],
        &["dead-letter", "list"],
        &["key", "list"],
        &["stream", "list"],
        &["status"],
    ] {
        failed(&app, 4, &[command, &["--key", &key]].concat());
    }
    failed(&app, 1, &["key", "add", "odd", "--scopes", "read,send", "--view-key", "user1"]);
}

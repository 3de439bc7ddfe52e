//! Contract 4 and further Socket.IO sources, with the newest client and the oldest one of version 4.

use serde_json::{Value, json};

use crate::harness::node::NodeProgram;
use crate::harness::{Start, TestApp, wait_for};

/// One line of configuration opens the source.
const OPEN: &str = "source.client_data.access = \"open\"\n";

fn program(name: &str, app: &TestApp, variables: &[(&str, &str)]) -> NodeProgram {
    let server = format!("http://{}", app.address);
    let variables: Vec<_> = variables.iter().copied().chain([("SERVER", server.as_str())]).collect();
    NodeProgram::start(&format!("tests/sockets/clients/{name}.mjs"), &variables)
}

/// Returns the events of a stream as the native API shows them.
fn events(app: &TestApp, stream: &str) -> Vec<Value> {
    let (mut events, mut from) = (Vec::new(), 0);
    loop {
        let page = app.client().get(&format!("/v1/streams/{stream}/events?from={from}&limit=1000")).json();
        let found = page["events"].as_array().unwrap();
        if found.is_empty() {
            return events;
        }
        events.extend(found.iter().cloned());
        from = page["next"].as_u64().unwrap();
    }
}

/// Returns the value of a metric.
fn metric(app: &TestApp, name: &str) -> f64 {
    let text = app.client().get("/metrics").text();
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

#[test]
fn events_are_answered_as_the_contract_says_over_each_transport() {
    let app = TestApp::configured(OPEN);
    program("exchange", &app, &[]).finish();
    // Each of the six clients had 202 events accepted.
    let events = events(&app, "inventory");
    assert_eq!(events.len(), 6 * 202);
    let first = &events[0];
    assert_eq!(
        first["event"],
        json!({ "productId": 23, "productName": "Product 1", "quantity": 50, "price": 10.99, "timestamp": 1_700_000_000_000_u64 })
    );
    assert_eq!(first["address"], "127.0.0.1");
    assert!(first["userAgent"].as_str().is_some_and(|agent| agent.contains("node")), "{first}");
    let clients: std::collections::BTreeSet<&str> =
        events.iter().map(|event| event["clientId"].as_str().unwrap()).collect();
    assert_eq!(clients.len(), 6);
    app.settle();
    let rows = "SELECT COUNT(*), SUM(quantity), MIN(price), MAX(product_name) FROM inventory";
    assert_eq!(app.sql(rows), format!("{}\t{}\t10.99\tProduct 1", 6 * 202, 6 * (50 + 50 + 199 * 100)));
    wait_for("the log line", || app.log_line("client gone").is_some());
    let gone = app.log_line("client gone").unwrap();
    assert_eq!((&gone["accepted"], &gone["reason"]), (&json!(202), &json!("the client left")));
    assert!(app.log_line("event refused").is_some_and(|line| line["fields"] == "productId"));
    wait_for("free places", || metric(&app, "millrace_sockets") == 0.0);
}

#[test]
fn a_client_connects_with_a_key_that_may_send_until_the_key_is_revoked() {
    let app = TestApp::start();
    let key = |name: &str, scope: &str| {
        let body = json!({ "name": name, "scopes": [scope], "streams": ["inventory"] }).to_string();
        let answer = app.client().post("/v1/keys", &body).json();
        answer["key"].as_str().unwrap().to_owned()
    };
    let (send, read, revoked) = (key("shop", "send"), key("board", "read"), key("old-shop", "send"));
    let variables = [("SEND_KEY", &*send), ("READ_KEY", &*read), ("REVOKED_KEY", &*revoked)];
    let mut program = program("access", &app, &variables);
    program.expect("connected");
    let list = app.client().get("/v1/keys").json();
    let keys = list["keys"].as_array().or(list.as_array()).unwrap();
    let id = keys.iter().find(|key| key["name"] == "old-shop").unwrap()["id"].as_str().unwrap().to_owned();
    assert!(app.client().request("DELETE", &format!("/v1/keys/{id}"), None).status < 300);
    program.tell("revoked");
    program.finish();
}

#[test]
fn a_resent_event_with_an_id_counts_once_although_the_server_is_killed() {
    let config = r#"
        [stream.changes]
        key = "item"
        fields.item = { type = "text", required = true }
        fields.amount = { type = "integer", required = true }
        [source.changes]
        kind = "socketio"
        event = "change"
        stream = "changes"
        namespace = "/"
        access = "open"
        ids = true
        answer = '{"status":"success","id":"{eventId}"}'
        welcome = '{"hello":true}'
        welcome_event = "welcome"
        [view.changes]
        kind = "ledger"
        from = "changes"
        amount = "+amount"
        amount_column = "total"
    "#;
    let port = crate::harness::free_port();
    let start = Start {
        config: Some(config.to_owned()),
        arguments: vec!["--listen".to_owned(), format!("localhost:{port}")],
        ..Start::default()
    };
    let mut app = TestApp::with(start);
    let events = 150_u64;
    let mut program = program("restart", &app, &[("EVENTS", &events.to_string())]);
    for _ in 0..3 {
        program.expect("acknowledged");
        app.restart();
    }
    program.finish();
    app.settle();
    let sum = events * (events - 1) / 2;
    let balances =
        app.sql("SELECT COUNT(*), MIN(CAST(total AS INTEGER)), MAX(CAST(total AS INTEGER)) FROM changes");
    assert_eq!(balances, format!("6\t{sum}\t{sum}"));
}

#[test]
fn a_message_that_is_too_large_is_refused_and_the_client_goes_on() {
    let app = TestApp::configured(OPEN);
    program("large", &app, &[]).finish();
    assert_eq!(events(&app, "inventory").len(), 6 * 3);
}

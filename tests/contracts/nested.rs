//! Fields inside objects: a refusal names their path, views read them, and the event stays as it was sent.

use serde_json::json;

use crate::harness::TestApp;

const EVENTS: &str = "/v1/streams/orders/events";

fn orders() -> TestApp {
    TestApp::configured(
        r#"
        [stream.orders]
        key = "customer.id"
        fields.customer = { type = "any", required = true }
        fields."customer.id" = { type = "text", required = true, max = 9 }
        fields."order.sum.net" = { type = "decimal", required = true }
        [view.spent]
        kind = "ledger"
        from = "orders"
        amount = "+order.sum.net"
        "#,
    )
}

fn order(customer: &str, net: &str) -> String {
    format!(
        r#"{{"order":{{"sum":{{"gross":1,"net":{net}}},"lines":[{{}}]}},"customer":{{"name":"n","id":{customer}}}}}"#
    )
}

#[test]
fn a_ledger_reads_a_nested_key_and_amount() {
    let app = orders();
    let body = format!("{}\n{}\n{}\n", order("\"a\"", "0.1"), order("\"a\"", "0.2"), order("7", "-1e1"));
    assert_eq!(app.client().post_lines(EVENTS, &body).json()["accepted"], 3);
    app.settle();
    for (key, balance) in [("a", json!(0.3)), ("7", json!(-10))] {
        let shown = app.client().get(&format!("/v1/views/spent/balances/{key}")).json();
        assert_eq!(shown, json!({ "key": key, "balance": balance }));
    }
    assert_eq!(app.stored.columns("spent"), ["id", "balance"]);
    assert_eq!(app.client().post("/v1/views/spent/reconcile", "{}").status, 200);
}

#[test]
fn an_invalid_nested_field_is_named_by_its_path() {
    let app = orders();
    let good = order("\"a\"", "1");
    for (part, other, field) in [
        (r#"{"name":"n","id":"a"}"#, "null", "customer"),
        (r#"{"name":"n","id":"a"}"#, "3", "customer"),
        (r#""a""#, r#""0123456789""#, "customer.id"),
        (r#""id":"a""#, r#""ID":"a""#, "customer.id"),
        (r#"{"gross":1,"net":1}"#, "[]", "order.sum"),
        (r#""net":1"#, r#""net":"1""#, "order.sum.net"),
        (r#""gross""#, r#""net""#, "order.sum.net"),
        (r#""net":1}"#, r#""net.x":1},"order.sum.net":1"#, "order.sum.net"),
    ] {
        let body = good.replace(part, other);
        let answer = app.client().post(EVENTS, &body);
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(answer.json()["errors"][0]["field"], field, "{body}: {}", answer.text());
    }
    assert_eq!(app.log_end(), 0);
    assert_eq!(app.client().post(EVENTS, &good).status, 200);
}

//! CloudEvents 1.0 over HTTP in binary, structured and batch mode.

use serde_json::{Value, json};

use crate::harness::{Answer, Client, TestApp};

const EVENTS: &str = "/v1/streams/sales/events";
const ONE: &str = "application/cloudevents+json";
const MANY: &str = "application/cloudevents-batch+json; charset=utf-8";

/// Starts a server whose view depends on the type of the CloudEvents.
fn shop() -> TestApp {
    TestApp::configured(
        r#"
        [stream.sales]
        key = "customer"
        fields.customer = { type = "text", required = true }
        fields.amount = { type = "decimal", required = true }
        fields."cloudevent.type" = { type = "text", required = true, one_of = ["shop.sale", "shop.refund"] }
        [view.sales]
        kind = "ledger"
        from = "sales"
        by = "cloudevent.type"
        amount = { "shop.sale" = "+amount", "shop.refund" = "-amount" }
        "#,
    )
}

fn cloud_event(id: &str, kind: &str, data: &Value) -> Value {
    json!({ "specversion": "1.0", "id": id, "source": "/shop/7", "type": kind, "data": data })
}

fn post(client: &Client, kind: &str, body: &str) -> Answer {
    client.request("POST", EVENTS, Some((kind, body.as_bytes())))
}

fn binary(app: &TestApp, id: &str, kind: &str) -> Client {
    let headers = [("ce-specversion", "1.0"), ("ce-id", id), ("ce-source", "/shop/7"), ("ce-type", kind)];
    headers.into_iter().fold(app.client(), |client, (name, value)| client.with_header(name, value))
}

fn accepted(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["eventId"].as_str().unwrap().to_owned()
}

/// Expects a refusal, and returns its field and reason.
fn refused(answer: &Answer) -> String {
    assert_eq!(answer.status, 400, "{}", answer.text());
    let error = &answer.json()["errors"][0];
    format!("{}: {}", error["field"].as_str().unwrap(), error["reason"].as_str().unwrap())
}

fn balance(app: &TestApp, customer: &str) -> Value {
    app.settle();
    app.client().get(&format!("/v1/views/sales/balances/{customer}")).json()["balance"].clone()
}

#[test]
fn every_mode_is_accepted_and_its_attributes_are_fields() {
    let app = shop();
    let client = app.client();
    let mut sale = cloud_event("1", "shop.sale", &json!({ "customer": "c", "amount": 10.5 }));
    sale["subject"] = json!("order 7");
    sale["sampledrate"] = json!(3);
    let id = accepted(&post(&client, ONE, &sale.to_string()));
    let event = client.get(&format!("/v1/events/{id}")).json()["event"].clone();
    let attributes = json!({ "specversion": "1.0", "id": "1", "source": "/shop/7", "type": "shop.sale",
        "subject": "order 7", "sampledrate": 3 });
    assert_eq!(event, json!({ "customer": "c", "amount": 10.5, "cloudevent": attributes }));
    let batch = json!([
        cloud_event("2", "shop.sale", &json!({ "customer": "c", "amount": 100 })),
        cloud_event("3", "shop.refund", &json!({ "customer": "c", "amount": 0.25 })),
    ]);
    let answer = post(&client, MANY, &batch.to_string());
    assert_eq!((answer.status, &answer.json()["accepted"]), (200, &json!(2)), "{}", answer.text());
    let named = binary(&app, "4", "shop.refund").with_header("ce-subject", "caf%C3%A9");
    let id = accepted(&named.post(EVENTS, r#"{"customer":"c","amount":0.125}"#));
    let event = client.get(&format!("/v1/events/{id}")).json()["event"].clone();
    assert_eq!((&event["cloudevent"]["subject"], &event["amount"]), (&json!("café"), &json!(0.125)));
    assert_eq!(balance(&app, "c"), json!(110.125));
    assert_eq!(post(&client, MANY, "[]").json()["accepted"], 0);
}

#[test]
fn a_cloud_event_counts_once_across_modes() {
    let app = shop();
    let client = app.client();
    let data = r#"{"customer":"c","amount":5}"#;
    let sale = |id: &str| {
        format!(r#"{{"specversion":"1.0","id":"{id}","source":"/shop/7","type":"shop.sale","data":{data}}}"#)
    };
    let id = accepted(&post(&client, ONE, &sale("1")));
    assert_eq!(accepted(&post(&client, ONE, &sale("1"))), id);
    assert_eq!(accepted(&binary(&app, "1", "shop.sale").post(EVENTS, data)), id);
    let batch = post(&client, MANY, &format!("[{}]", sale("1"))).json();
    assert_eq!(batch["eventIds"], json!([id]));
    // A CloudEvent is identified by its source and id. An `Idempotency-Key` can only repeat the id.
    let keyed = |key: &str| client.clone().with_header("Idempotency-Key", key);
    assert_eq!(accepted(&post(&keyed("1"), ONE, &sale("1"))), id);
    for answer in [
        post(&keyed("k"), ONE, &sale("1")),
        post(&keyed("k"), MANY, &format!("[{}]", sale("1"))),
        binary(&app, "1", "shop.sale").with_header("Idempotency-Key", "k").post(EVENTS, data),
    ] {
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(answer.text().contains("differs from the `Idempotency-Key`"), "{}", answer.text());
    }
    // The same id from another source is another event, and so is a plain event with this client id.
    let other = sale("1").replace("/shop/7", "/shop/8");
    assert_ne!(accepted(&post(&client, ONE, &other)), id);
    let plain = r#"{"id":"1","customer":"c","amount":5,"cloudevent":{"type":"shop.sale"}}"#;
    assert_ne!(accepted(&client.post(EVENTS, plain)), id);
    let changed = post(&client, ONE, &sale("1").replace("\"amount\":5", "\"amount\":6"));
    assert_eq!((changed.status, &changed.json()["type"]), (409, &json!("urn:millrace:problem:conflict")));
    assert_eq!(balance(&app, "c"), json!(15));
}

#[test]
fn an_invalid_cloud_event_is_refused_with_its_field() {
    let app = shop();
    let client = app.client();
    let sale = cloud_event("1", "shop.sale", &json!({ "customer": "c", "amount": 5 }));
    let without = |name: &str| {
        let mut event = sale.clone();
        event.as_object_mut().unwrap().remove(name);
        refused(&post(&client, ONE, &event.to_string()))
    };
    for name in ["specversion", "id", "source", "type", "data"] {
        assert_eq!(without(name), format!("{name}: is missing"));
    }
    let with = |name: &str, value: Value| {
        let mut event = sale.clone();
        event[name] = value;
        refused(&post(&client, ONE, &event.to_string()))
    };
    assert_eq!(with("specversion", json!("0.3")), "specversion: must be 1.0");
    assert_eq!(
        with("type", json!("shop.gift")),
        "cloudevent.type: must be one of `shop.sale`, `shop.refund`"
    );
    assert_eq!(with("data", json!([1])), "data: expected an object, got an array");
    assert_eq!(with("data", json!({ "customer": "c" })), "amount: is missing");
    let own = json!({ "customer": "c", "amount": 1, "cloudevent": {} });
    assert_eq!(with("data", own), "cloudevent: is given twice");
    assert_eq!(with("data_base64", json!("e30=")), "data_base64: is given together with `data`");
    assert_eq!(
        refused(&client.post(EVENTS, r#"{"customer":"c","amount":5}"#)),
        "cloudevent.type: is missing"
    );
    let half = app.client().with_header("ce-id", "1").with_header("ce-source", "/x");
    assert_eq!(refused(&half.post(EVENTS, "{}")), "specversion: is missing");
    for body in ["", "{\"customer\":\"c\",\"amount\":5", "{}}", "{\"customer\":\"c\",}", "[]"] {
        refused(&binary(&app, "1", "shop.sale").post(EVENTS, body));
    }
    for (client, kind) in [
        (binary(&app, "1", "shop.sale"), "application/x-ndjson"),
        (client.clone(), "application/cloudevents+xml"),
    ] {
        assert_eq!(post(&client, kind, &sale.to_string()).status, 415, "{kind}");
    }
    // A batch is accepted or refused as a whole, and a refusal lists every invalid event.
    let batch = json!([sale, { "id": "2" }, cloud_event("3", "shop.sale", &json!({ "amount": 5 }))]);
    let answer = post(&client, MANY, &batch.to_string()).json();
    assert_eq!(answer["errorCount"], 2, "{answer}");
    let listed: Vec<_> =
        answer["errors"].as_array().unwrap().iter().map(|one| (&one["index"], &one["field"])).collect();
    assert_eq!(listed, [(&json!(1), &json!("specversion")), (&json!(2), &json!("customer"))]);
    assert_eq!(app.log_end(), 0);
}

#[test]
fn base64_data_is_accepted_if_it_is_json() {
    let app = shop();
    let event = |coded: &str| {
        let sale =
            r#"{"specversion":"1.0","id":"1","source":"/shop/7","type":"shop.sale","data_base64":"X"}"#;
        post(&app.client(), ONE, &sale.replace('X', coded))
    };
    // {"customer":"c","amount":0.10}
    accepted(&event("eyJjdXN0b21lciI6ImMiLCJhbW91bnQiOjAuMTB9"));
    assert_eq!(balance(&app, "c"), json!(0.1));
    assert_eq!(refused(&event("%%%")), "data_base64: is not base64");
    assert_eq!(refused(&event("PGEvPg==")), "data: expected an object, got something that is not JSON");
}

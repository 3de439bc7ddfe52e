//! Corrections: an event with `takesBack` undoes another event once, and the receipts show it.

use serde_json::{Value, json};

use crate::harness::{Client, TestApp, wait_for};

const APPLIED: &str = "/v1/streams/revenue/events?wait=applied";

fn send(client: &Client, event: &Value) -> String {
    let answer = client.post(APPLIED, &event.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["eventId"].as_str().unwrap().to_owned()
}

fn sale(user: &str, value: &str) -> Value {
    serde_json::from_str(&format!(r#"{{"userId":"{user}","name":"add_revenue","value":{value}}}"#)).unwrap()
}

fn take_back(client: &Client, id: &str) -> String {
    send(client, &json!({ "takesBack": id, "reason": "counted by mistake" }))
}

fn receipt(client: &Client, id: &str) -> Value {
    client.get(&format!("/v1/events/{id}")).json()
}

#[test]
fn a_correction_undoes_an_event_once_and_receipts_show_it() {
    let app = TestApp::start();
    let client = app.client();
    send(&client, &sale("u", "1.25"));
    let wrong = send(&client, &sale("u", "99999999.9999"));
    let correction = take_back(&client, &wrong);
    assert_eq!(app.balance("u").as_deref(), Some("1.25"));
    let again = take_back(&client, &wrong);
    assert_eq!(app.balance("u").as_deref(), Some("1.25"));

    let shown = receipt(&client, &wrong);
    assert_eq!(shown["takenBackBy"], correction.as_str(), "{shown}");
    assert_eq!(shown["views"]["revenue"]["state"], "taken-back");
    let shown = receipt(&client, &correction);
    assert_eq!(shown["takesBack"], wrong.as_str(), "{shown}");
    assert_eq!(shown["views"]["revenue"]["state"], "applied");
    assert_eq!(receipt(&client, &again)["views"]["revenue"]["state"], "left-out");
}

#[test]
fn a_correction_may_use_the_clients_id_in_arrays_and_lines() {
    let app = TestApp::start();
    let client = app.client();
    let mut event = sale("u", "7");
    for id in ["a", "b", "c"] {
        event["id"] = id.into();
        send(&client, &event);
    }
    // The repeat is the same event, and counts at its first position only.
    send(&client, &event);
    let many = client.post(APPLIED, &json!([{ "takesBack": "a" }, sale("u", "1")]).to_string());
    assert_eq!((many.status, &many.json()["accepted"]), (200, &json!(2)), "{}", many.text());
    assert_eq!(app.balance("u").as_deref(), Some("15"));
    let lines = format!("{}\n{}\n", sale("u", "1"), json!({ "takesBack": "c", "id": "of c" }));
    for _ in 0..2 {
        assert_eq!(client.post_lines(APPLIED, &lines).json()["accepted"], 2);
    }
    assert_eq!(app.balance("u").as_deref(), Some("10"), "15 + 1 + 1 - 7, the correction once");
}

#[test]
fn a_correction_may_use_the_idempotency_key_of_a_single_event() {
    let app = TestApp::start();
    let (client, under) = (app.client(), |key: &str| app.client().with_header("Idempotency-Key", key));
    send(&under("k1"), &sale("u", "7"));
    assert_eq!(under("k2").post("/v1/streams/revenue/events", &sale("u", "5").to_string()).status, 200);
    assert_eq!(under("k2").post("/v1/streams/revenue/events", &sale("u", "5").to_string()).status, 200);
    assert_eq!(app.balance("u").as_deref(), Some("12"));
    // The repeated correction changes nothing.
    take_back(&client, "k2");
    take_back(&client, "k2");
    assert_eq!(app.balance("u").as_deref(), Some("7"));
    // An id in the body wins over a key of the same text.
    let mut named = sale("u", "100");
    named["id"] = "k1".into();
    send(&client, &named);
    take_back(&client, "k1");
    assert_eq!(app.balance("u").as_deref(), Some("7"));

    // A key of several events does not identify one of them.
    let two = json!([sale("u", "1"), sale("u", "2")]).to_string();
    let ids = under("k3").post(APPLIED, &two).json()["eventIds"].clone();
    let lines = format!("{}\n{}\n", sale("u", "3"), sale("u", "4"));
    assert_eq!(under("k4").post_lines(APPLIED, &lines).json()["accepted"], 2);
    for key in ["k3", "k4"] {
        let answer = client.post(APPLIED, &json!({ "takesBack": key }).to_string());
        assert_eq!(answer.status, 400);
        assert!(
            answer.text().contains("is the `Idempotency-Key` of lines or of several events"),
            "{}",
            answer.text()
        );
    }
    take_back(&client, ids[1].as_str().unwrap());
    assert_eq!(app.balance("u").as_deref(), Some("15"), "7 + 1 + 2 + 3 + 4 - 2");
    // The ids of another key are separate.
    let other = client.post("/v1/keys", r#"{"name":"other","scopes":["send"]}"#).json()["key"].clone();
    let other = app.anonymous().with_header("Authorization", other.as_str().unwrap());
    let answer = other.post(APPLIED, r#"{"takesBack":"k2"}"#);
    assert!(answer.text().contains("is not an event of this stream"), "{}", answer.text());
}

#[test]
fn an_invalid_correction_is_refused_with_its_reason() {
    let app = TestApp::start();
    let client = app.client();
    let sale_id = send(&client, &sale("u", "5"));
    let correction = take_back(&client, &sale_id);
    let visit = json!({ "site_id": "s", "event_type": "page_view" }).to_string();
    let other =
        client.post("/v1/streams/site_events/events", &visit).json()["eventId"].as_str().unwrap().to_owned();
    let end = app.log_end();
    let cases = [
        (json!({ "takesBack": "nobody" }), "takesBack: is not an event of this stream"),
        (json!({ "takesBack": other }), "takesBack: is not an event of this stream"),
        (json!({ "takesBack": correction }), "takesBack: is a correction, which cannot be corrected"),
        (json!({ "takesBack": "" }), "takesBack: is missing"),
        (json!({ "takesBack": 1.5 }), "takesBack: expected text, got a number"),
        (
            json!({ "takesBack": sale_id, "value": 5 }),
            "takesBack: is given together with value; a correction cannot be an event as well",
        ),
    ];
    for (body, reason) in cases {
        let answer = client.post(APPLIED, &body.to_string());
        assert_eq!((answer.status, &answer.json()["detail"]), (400, &json!(reason)), "{body}");
    }
    let lines = format!("{}\n{}\n", sale("u", "1"), json!({ "takesBack": "nobody" }));
    let answer = client.post_lines(APPLIED, &lines);
    assert_eq!((answer.status, &answer.json()["errors"][0]["line"]), (400, &json!(2)));
    assert_eq!(app.log_end(), end, "nothing of a refused body is stored");
    // Contract 1 has no corrections.
    let answer = client.post("/liveEvent", &json!({ "takesBack": sale_id }).to_string());
    assert_eq!(answer.status, 400);
}

#[test]
fn corrections_survive_a_kill_and_a_rebuild() {
    let mut app = TestApp::start();
    let client = app.client();
    let ids: Vec<String> = (1..=20).map(|value| send(&client, &sale("u", &value.to_string()))).collect();
    for id in &ids[..10] {
        let body = json!({ "takesBack": id }).to_string();
        assert_eq!(client.post("/v1/streams/revenue/events", &body).status, 200);
    }
    app.restart();
    assert_eq!(app.balance("u").as_deref(), Some("155"), "11 to 20");
    app.sql("UPDATE users_revenue SET revenue = '1'");
    let rebuilt = app.client().post("/v1/views/revenue/rebuild", "");
    assert_eq!(rebuilt.status, 200, "{}", rebuilt.text());
    assert_eq!(app.balance("u").as_deref(), Some("155"));
    let compared = app.client().post("/v1/views/revenue/reconcile", "").json();
    assert_eq!(compared["differenceCount"], 0, "{compared}");
}

#[test]
fn correcting_a_dead_letter_undoes_nothing_and_prevents_its_retry() {
    let app = TestApp::start();
    let client = app.client();
    send(&client, &sale("u", "5"));
    app.stored.refuse("users_revenue", "user_id", "u");
    let dead = send(&client, &sale("u", "6"));
    let dead_letter = receipt(&client, &dead)["views"]["revenue"]["letter"].as_str().unwrap().to_owned();
    app.stored.stop_refusing("users_revenue");
    take_back(&client, &dead);
    assert_eq!(app.balance("u").as_deref(), Some("5"));
    let retried = client.post(&format!("/v1/dead-letters/{dead_letter}/retry"), "");
    assert_eq!(retried.status, 409, "{}", retried.text());
    assert_eq!(app.balance("u").as_deref(), Some("5"));
}

/// A rejected batch is split into halves. One half contains the rejected event; in the next one, its
/// correction has nothing to undo.
#[test]
fn a_correction_in_the_batch_that_rejects_its_event_undoes_nothing() {
    let app = TestApp::start();
    let client = app.client();
    let limited = "CREATE TABLE users_revenue (user_id {key} PRIMARY KEY, revenue {amount} NOT NULL, \
                   CHECK (revenue + 0 <= 100))";
    app.sql(limited);
    send(&client, &sale("u", "90"));
    app.sql("ALTER TABLE users_revenue RENAME TO away");
    let accepted = |event: Value| {
        let answer = client.post("/v1/streams/revenue/events", &event.to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["eventId"].clone()
    };
    accepted(sale("u", "1"));
    let refused = accepted(sale("u", "50"));
    let correction = accepted(json!({ "takesBack": refused }));
    accepted(sale("w", "500"));
    wait_for("the view to pause", || app.view("revenue")["state"] == "paused");
    app.sql("ALTER TABLE away RENAME TO users_revenue");
    app.settle();
    assert_eq!(app.balance("u").as_deref(), Some("91"));
    let dead_letters = client.get("/v1/dead-letters?status=open").json();
    let dead_letters: Vec<&Value> = dead_letters["deadLetters"].as_array().unwrap().iter().collect();
    assert!(dead_letters.iter().all(|dead_letter| dead_letter["eventId"] != correction), "{dead_letters:?}");
    assert_eq!(dead_letters.len(), 2, "{dead_letters:?}");
    let compared = client.post("/v1/views/revenue/reconcile", "").json();
    assert_eq!(compared["differenceCount"], 0, "{compared}");
}

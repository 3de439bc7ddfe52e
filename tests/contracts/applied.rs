//! `wait=applied`: the answer says whether every view applied the events of the request, and if not, which dead letters
//! they became.

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Start, StoreKind, TestApp};

const EVENTS: &str = "/v1/streams/refunds/events";
const APPLIED: &str = "/v1/streams/refunds/events?wait=applied";
const CONFIG: &str = r#"
[stream.refunds]
key = "who"
fields.who = { type = "text", required = true }
fields.cents = { type = "integer", required = true }
[view.refunds]
kind = "ledger"
from = "refunds"
amount = "+cents"
[stream.notes]
key = "who"
fields.who = { type = "text", required = true }
"#;

fn refund(who: &str, cents: u32) -> Value {
    json!({ "who": who, "cents": cents })
}

fn named(id: &str, who: &str, cents: u32) -> Value {
    json!({ "id": id, "who": who, "cents": cents })
}

fn start(store_kind: StoreKind) -> TestApp {
    TestApp::with(Start { config: Some(CONFIG.to_owned()), store_kind: Some(store_kind), ..Start::default() })
}

/// Starts a server whose database refuses rows of `bad`. Its view has begun.
fn refusing(store_kind: StoreKind) -> TestApp {
    let app = start(store_kind);
    assert_eq!(answered(&app.client().post(APPLIED, &refund("good", 1).to_string()))["applied"], true);
    app.stored.refuse("refunds", "who", "bad");
    app
}

fn answered(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Expects an answer whose events are not all applied, and returns its dead letters.
fn unapplied(answer: &Answer) -> Vec<Value> {
    let body = answered(answer);
    assert_eq!(body["applied"], false, "{body}");
    let letters = body["deadLetters"].as_array().unwrap_or_else(|| panic!("no dead letters in {body}"));
    assert!(!letters.is_empty(), "{body}");
    for letter in letters {
        assert!(!letter["reason"].as_str().unwrap().is_empty(), "{body}");
    }
    letters.clone()
}

fn post(client: &Client, body: &Value) -> Answer {
    client.post(APPLIED, &body.to_string())
}

fn retry(app: &TestApp, letter: &Value) {
    let path = format!("/v1/dead-letters/{}/retry", letter["id"].as_str().unwrap());
    assert_eq!(app.client().post(&path, "").status, 200);
    app.settle();
}

macro_rules! on_each_store {
    ($($case:ident),+ $(,)?) => {
        mod sqlite {
            $(#[test] fn $case() { super::$case(crate::harness::StoreKind::Sqlite); })+
        }
        mod postgres {
            $(#[test] fn $case() { super::$case(crate::harness::StoreKind::Postgres); })+
        }
        mod mariadb {
            $(#[test] fn $case() { super::$case(crate::harness::StoreKind::Mariadb); })+
        }
    };
}

on_each_store!(
    an_event_that_the_database_refused_is_answered_as_not_applied,
    a_repeat_of_a_dead_letter_is_answered_as_not_applied_until_its_retry_is_applied,
    repeated_lines_of_a_dead_letter_are_answered_as_not_applied,
);

fn an_event_that_the_database_refused_is_answered_as_not_applied(store_kind: StoreKind) {
    let app = refusing(store_kind);
    let client = app.client();
    let answer = post(&client, &refund("bad", 5));
    let letters = unapplied(&answer);
    let stored = client.get("/v1/dead-letters").json()["deadLetters"][0].clone();
    assert_eq!(letters.len(), 1);
    for field in ["id", "view", "position", "eventId", "reason", "status"] {
        assert_eq!(letters[0][field], stored[field], "{field}");
    }
    assert_eq!((&letters[0]["view"], &letters[0]["status"]), (&json!("refunds"), &json!("open")));
    assert_eq!(letters[0]["eventId"], answer.json()["eventId"]);

    let array = json!([refund("good", 1), refund("bad", 1), refund("good", 1)]);
    let answer = post(&client, &array);
    let letters = unapplied(&answer);
    assert_eq!((letters.len(), &letters[0]["eventId"]), (1, &answer.json()["eventIds"][1]));

    let lines = format!("{}\n{}\n", refund("good", 1), refund("bad", 1));
    assert_eq!(unapplied(&client.post_lines(APPLIED, &lines)).len(), 1);
    let good = answered(&client.post_lines(APPLIED, &format!("{}\n", refund("good", 1))));
    assert_eq!((&good["applied"], &good["deadLetters"]), (&json!(true), &Value::Null));
    // Without `wait`, the answer says nothing about the views.
    let unwaited = answered(&client.post(EVENTS, &refund("bad", 1).to_string()));
    assert!(unwaited["applied"].is_null() && unwaited["deadLetters"].is_null(), "{unwaited}");
}

fn a_repeat_of_a_dead_letter_is_answered_as_not_applied_until_its_retry_is_applied(store_kind: StoreKind) {
    let app = refusing(store_kind);
    let client = app.client();
    let event = named("r-1", "bad", 5);
    let first = unapplied(&post(&client, &event));
    let again = post(&client, &event);
    assert_eq!(unapplied(&again), first);
    assert_eq!(again.json()["repeat"], true, "{}", again.text());
    let array = json!([refund("good", 1), event]);
    let in_array = post(&client, &array);
    assert_eq!(unapplied(&in_array), first);
    assert_eq!(in_array.json()["repeats"], json!([1]));
    app.stored.stop_refusing("refunds");
    retry(&app, &first[0]);
    let applied = post(&client, &event);
    assert_eq!(answered(&applied)["applied"], true, "{}", applied.text());
    assert_eq!(applied.header("idempotent-replayed"), Some("true"));
}

fn repeated_lines_of_a_dead_letter_are_answered_as_not_applied(store_kind: StoreKind) {
    let app = refusing(store_kind);
    let named = |header: &str, name: &str| app.client().with_header(header, name);
    let lines = |events: &[Value]| events.iter().map(|event| format!("{event}\n")).collect::<String>();
    let both = lines(&[refund("good", 1), refund("bad", 1), refund("good", 2)]);
    for client in [named("Idempotency-Key", "k"), named("Millrace-Upload", "file")] {
        let first = unapplied(&client.post_lines(APPLIED, &both));
        assert_eq!(unapplied(&client.post_lines(APPLIED, &both)), first);
    }
    // Only the lines of the request matter. The longer run contains repeats of the shorter one.
    let file = |first: &str| named("Millrace-Upload", "file").with_header("Millrace-First-Line", first);
    let after = answered(&file("3").post_lines(APPLIED, &lines(&[refund("good", 2)])));
    assert_eq!(after["applied"], true, "{after}");
    let longer = both.clone() + &lines(&[refund("good", 3)]);
    let first = unapplied(&file("1").post_lines(APPLIED, &longer));
    assert_eq!(unapplied(&file("1").post_lines(APPLIED, &longer)), first);
    assert_eq!(unapplied(&file("2").post_lines(APPLIED, &lines(&[refund("bad", 1)]))), first);
}

#[test]
fn an_id_that_was_used_for_another_body_is_answered_as_not_applied() {
    let mut app = start(StoreKind::from_env());
    assert_eq!(answered(&post(&app.client(), &named("x", "u", 1)))["applied"], true);
    // After a restart, only dedup knows the id.
    app.restart();
    let client = app.client();
    let letters = unapplied(&post(&client, &named("x", "u", 1_000)));
    assert_eq!(letters[0]["view"], "dedup");
    assert_eq!(letters[0]["reason"], "the same id was used before for another event");
    let keyed = client.clone().with_header("Idempotency-Key", "reused");
    assert_eq!(answered(&keyed.post_lines(APPLIED, &format!("{}\n", refund("u", 1))))["applied"], true);
    assert_eq!(unapplied(&keyed.post_lines(APPLIED, &format!("{}\n", refund("u", 2))))[0]["view"], "dedup");
    // A stream without views has ids, too.
    let notes = |text: &str| {
        let keyed = app.client().with_header("Idempotency-Key", "reused");
        keyed.post_lines("/v1/streams/notes/events?wait=applied", &format!("{text}\n"))
    };
    assert_eq!(answered(&notes(r#"{"who":"a"}"#))["applied"], true);
    assert_eq!(unapplied(&notes(r#"{"who":"b"}"#))[0]["view"], "dedup");
    let receipt = client.get(&format!("/v1/events/{}", letters[0]["eventId"].as_str().unwrap()));
    assert_eq!(receipt.json()["deadLetter"]["letter"], letters[0]["id"], "{}", receipt.text());
    assert_eq!(receipt.json()["views"]["refunds"]["state"], "left-out");
}

/// A correction that the database refuses leaves its event counted.
#[test]
fn a_refused_correction_is_answered_as_not_applied_and_the_receipt_shows_the_event_as_applied() {
    let app = start(StoreKind::from_env());
    let client = app.client();
    let sent = answered(&post(&client, &refund("bad", 5)));
    let id = sent["eventId"].as_str().unwrap();
    app.stored.refuse("refunds", "who", "bad");
    let correction = json!({ "takesBack": id });
    let first = post(&client, &correction);
    let letters = unapplied(&first);
    assert_eq!(letters[0]["eventId"], first.json()["eventId"]);
    // Only the first correction of an event has an effect, so the second one is not applied either.
    assert_eq!(unapplied(&post(&client, &correction)), letters);
    assert_eq!(unapplied(&client.post_lines(APPLIED, &format!("{correction}\n"))), letters);
    let receipt = client.get(&format!("/v1/events/{id}")).json();
    assert_eq!(receipt["views"]["refunds"]["state"], "applied", "{receipt}");
    app.stored.stop_refusing("refunds");
}

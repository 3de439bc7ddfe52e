//! `wait=applied`: the answer says whether every view applied the events of the request, and if not, which dead letters
//! they became.

use event::limits::{
    ANSWERED_CORRECTIONS_MAX, ANSWERED_RUNS_MAX, CHUNK_LINES_MAX, DEAD_LETTERS_ANSWERED_MAX,
};
use serde_json::{Value, json};

use crate::harness::{Answer, Client, Start, StoreKind, TestApp, configure};

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

/// Expects an answer that does not know whether every view applied the events, and returns the states in it.
fn unknown(answer: &Answer) -> Value {
    assert_eq!(answer.status, 202, "{}", answer.text());
    let body = answer.json();
    assert_eq!((&body["applied"], &body["deadLetters"]), (&json!(false), &Value::Null), "{body}");
    let names: Vec<&String> = body["views"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["dedup", "refunds"], "dedup and the views of the stream");
    body["views"].clone()
}

/// The answer shows the same states as `/ready`.
#[test]
fn a_paused_view_is_shown_to_a_sender_who_waits_in_the_form_of_ready() {
    let app = start(StoreKind::from_env());
    assert_eq!(answered(&post(&app.client(), &refund("a", 1)))["applied"], true);
    app.sql("ALTER TABLE refunds RENAME TO away");
    let views = unknown(&post(&app.client(), &refund("a", 1)));
    let ready = app.view("refunds");
    for field in ["state", "reason", "position", "lag"] {
        assert_eq!(views["refunds"][field], ready[field], "{field}");
    }
    assert_eq!((&views["refunds"]["state"], &views["refunds"]["lag"]), (&json!("paused"), &json!(1)));
    assert!(views["refunds"]["lagSeconds"].is_u64(), "{views}");
    assert_eq!(views["dedup"]["state"], "running");
    app.sql("ALTER TABLE away RENAME TO refunds");
}

#[test]
fn a_paused_dedup_is_shown_to_a_sender_who_waits() {
    let app = start(StoreKind::from_env());
    assert_eq!(answered(&post(&app.client(), &named("x", "a", 1)))["applied"], true);
    app.sql("ALTER TABLE millrace_seen RENAME TO away");
    let views = unknown(&post(&app.client(), &named("y", "a", 1)));
    assert_eq!(views["dedup"]["state"], "paused", "{views}");
    assert_eq!(views["dedup"]["reason"], app.view("dedup")["reason"]);
    app.sql("ALTER TABLE away RENAME TO millrace_seen");
}

#[test]
fn a_body_with_more_corrections_than_an_answer_looks_up_is_answered_as_unknown() {
    let app = start(StoreKind::from_env());
    let sent = answered(&post(&app.client(), &refund("a", 5)));
    let correction = json!({ "takesBack": sent["eventId"] }).to_string() + "\n";
    let corrections = |count: usize| app.client().post_lines(APPLIED, &correction.repeat(count));
    assert_eq!(answered(&corrections(3))["applied"], true);
    let views = unknown(&corrections(ANSWERED_CORRECTIONS_MAX + 1));
    assert_eq!(views["refunds"]["lag"], 0, "the views were waited for: {views}");
}

/// Each line was sent alone before, so each repeats another run.
#[test]
fn lines_that_repeat_more_runs_than_an_answer_follows_are_answered_as_unknown() {
    let app = start(StoreKind::from_env());
    let file = |first: usize| {
        let client = app.client().with_header("Millrace-Upload", "file");
        client.with_header("Millrace-First-Line", &first.to_string())
    };
    let line = format!("{}\n", refund("good", 1));
    let count = ANSWERED_RUNS_MAX + 1;
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (file, line) = (&file, &line);
            scope.spawn(move || {
                for first in (1..=count).skip(thread).step_by(8) {
                    assert_eq!(file(first).post_lines(EVENTS, line).status, 200);
                }
            });
        }
    });
    assert_eq!(answered(&file(1).post_lines(APPLIED, &line.repeat(count - 1)))["applied"], true);
    unknown(&file(1).post_lines(APPLIED, &line.repeat(count)));
    assert_eq!(app.client().get("/v1/views/refunds/balances/good").json()["balance"], count);
}

/// Repeats of other senders lie beside the lines. If they were followed, there would be too many.
#[test]
fn repeats_of_other_senders_beside_repeated_lines_are_not_followed() {
    let app = start(StoreKind::from_env());
    let client = app.client();
    let line = format!("{}\n", refund("line", 1));
    let others = |first: usize| {
        let ids = first..first + CHUNK_LINES_MAX;
        json!(ids.map(|id| named(&format!("other-{id}"), "other", 1)).collect::<Vec<_>>())
    };
    let file = |first: &str| {
        let client = client.clone().with_header("Millrace-Upload", "file");
        client.with_header("Millrace-First-Line", first)
    };
    for first in [0, CHUNK_LINES_MAX] {
        assert_eq!(answered(&post(&client, &others(first)))["applied"], true);
    }
    for (number, first) in [("1", 0), ("2", CHUNK_LINES_MAX)] {
        assert_eq!(answered(&file(number).post_lines(APPLIED, &line))["applied"], true);
        let repeated = answered(&post(&client, &others(first)));
        assert_eq!(repeated["repeats"].as_array().unwrap().len(), CHUNK_LINES_MAX);
    }
    assert_eq!(answered(&file("1").post_lines(APPLIED, &line.repeat(2)))["applied"], true);
    assert_eq!(app.client().get("/v1/views/refunds/balances/line").json()["balance"], 2);
}

/// The view passes the event while the receipt is being made.
#[test]
fn a_receipt_does_not_show_an_event_as_applied_while_it_becomes_a_dead_letter() {
    let mut app = refusing(StoreKind::from_env());
    app.restart_with(|start| {
        let points = "receipt.positions_read=sleep:6000;views.folded=sleep:2000";
        start.environment = vec![("MILLRACE_FAILPOINTS".to_owned(), points.to_owned())];
    });
    let sent = app.client().post(EVENTS, &refund("bad", 1).to_string());
    let receipt =
        app.client().get(&format!("/v1/events/{}", sent.json()["eventId"].as_str().unwrap())).json();
    assert_eq!(receipt["views"]["refunds"]["state"], "dead-letter", "{receipt}");
}

/// More dead letters of a view that was removed than an answer lists.
#[test]
fn dead_letters_of_a_removed_view_do_not_hide_those_of_the_others() {
    let extra = "[view.extra]\nkind = \"ledger\"\nfrom = \"refunds\"\namount = \"-cents\"\n";
    let mut app = TestApp::with(Start { config: Some(format!("{CONFIG}{extra}")), ..Start::default() });
    assert_eq!(answered(&post(&app.client(), &refund("good", 1)))["applied"], true);
    app.stored.refuse("extra", "who", "bad");
    // A view is paused if it refuses all events.
    let who = |number| if number % 2 == 0 { "good" } else { "bad" };
    let number_of_events = 2 * (DEAD_LETTERS_ANSWERED_MAX + 1);
    let mut events: Vec<Value> =
        (0..number_of_events).map(|number| named(&format!("n{number}"), who(number), 1)).collect();
    let answer = app.client().post(APPLIED, &json!(events).to_string());
    assert_eq!(answered(&answer)["moreDeadLetters"], true);
    app.stored.stop_refusing("extra");
    app.stored.refuse("refunds", "who", "worse");
    events.push(named("last", "worse", 1));
    assert_eq!(unapplied(&post(&app.client(), &events[events.len() - 1])).len(), 1);
    configure(app.folder.path(), CONFIG);
    app.restart();
    assert_eq!(app.client().request("DELETE", "/v1/views/extra", None).status, 200);
    let letters = unapplied(&app.client().post(APPLIED, &json!(events).to_string()));
    assert_eq!((letters.len(), &letters[0]["view"]), (1, &json!("refunds")));
}

//! Dead letters that somebody retries, corrected or unchanged. The view applies exactly the text that was
//! acknowledged, once.

use serde_json::{Value, json};

use crate::harness::{Start, StoreKind, TestApp, configure, wait_for};

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

/// One view of each kind, all of the same events.
const EVERY_KIND: &str = r#"
[stream.refunds]
key = "who"
fields.who = { type = "text", required = true }
fields.mail = { type = "text", required = true }
fields.cents = { type = "integer", required = true }
[view.refunds]
kind = "ledger"
from = "refunds"
amount = "+cents"
[view.counts]
kind = "stats"
from = "refunds"
group = "who"
distinct = "mail"
counts = ["mail"]
[view.entries]
kind = "table"
from = "refunds"
[view.mails]
kind = "notifications"
from = "refunds"
to = "mail"
type = "who"
message = "{cents} cents"
"#;

const APPLIED: &str = "/v1/streams/refunds/events?wait=applied";
const VIEWS: [&str; 4] = ["refunds", "counts", "entries", "mails"];

fn of_every_kind(store_kind: StoreKind) -> TestApp {
    let config = Some(EVERY_KIND.to_owned());
    let app = TestApp::with(Start { config, store_kind: Some(store_kind), ..Start::default() });
    app.pause_log_destination();
    app
}

fn sent(app: &TestApp, event: &Value) -> Value {
    let answer = app.client().post(APPLIED, &event.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Returns what each view shows of `who`: the balance, the counted events and users, the rows, the notifications.
fn shown(app: &TestApp, who: &str) -> (Value, Value, usize, usize) {
    app.settle();
    let get = |path: String| app.client().get(&path).json();
    let counts = get(format!("/v1/views/counts/stats?group={who}"));
    let rows = get(format!("/v1/views/entries/rows?who={who}"))["rows"].as_array().unwrap().len();
    let mails = get("/v1/notifications?view=mails".to_owned());
    let mails =
        mails["notifications"].as_array().unwrap().iter().filter(|mail| mail["eventType"] == who).count();
    let balance = get(format!("/v1/views/refunds/balances/{who}"))["balance"].clone();
    (balance, json!([counts["total"], counts["distinct"]]), rows, mails)
}

fn same_as_log(app: &TestApp) {
    for view in VIEWS {
        let report = app.client().post(&format!("/v1/views/{view}/reconcile"), "").json();
        assert_eq!(report["differenceCount"], 0, "{view}: {report}");
    }
}

fn event_of(who: &str, cents: u32) -> Value {
    json!({ "who": who, "mail": format!("{who}@example.com"), "cents": cents })
}

mod sqlite {
    #[test]
    fn a_retried_dead_letter_is_taken_back_once_in_every_view_whatever_is_killed() {
        super::taken_back_whatever_is_killed(crate::harness::StoreKind::Sqlite);
    }
}
mod postgres {
    #[test]
    fn a_retried_dead_letter_is_taken_back_once_in_every_view_whatever_is_killed() {
        super::taken_back_whatever_is_killed(crate::harness::StoreKind::Postgres);
    }
}
mod mariadb {
    #[test]
    fn a_retried_dead_letter_is_taken_back_once_in_every_view_whatever_is_killed() {
        super::taken_back_whatever_is_killed(crate::harness::StoreKind::Mariadb);
    }
}

fn taken_back_whatever_is_killed(store_kind: StoreKind) {
    let mut app = of_every_kind(store_kind);
    sent(&app, &event_of("bad", 1));
    let before = shown(&app, "bad");
    assert_eq!(before, (json!(1), json!([1, 1]), 1, 1));
    let tables = [("refunds", "who"), ("counts_counts", "grp"), ("entries", "who"), ("mails", "event_type")];
    let kills = ["", "views.folded=abort@1", "views.applied=abort@1", "views.applied=abort@2"];
    for ((view, (table, column)), kill) in VIEWS.into_iter().zip(tables).zip(kills) {
        app.stored.refuse(table, column, "bad");
        let answer = sent(&app, &event_of("bad", 10));
        let letters = answer["deadLetters"].as_array().unwrap_or_else(|| panic!("{view}: {answer}"));
        assert_eq!((letters.len(), &letters[0]["view"]), (1, &json!(view)), "{answer}");
        app.stored.stop_refusing(table);
        let id = answer["eventId"].as_str().unwrap().to_owned();
        let retry = format!("/v1/dead-letters/{}/retry", letters[0]["id"].as_str().unwrap());
        assert_eq!(app.client().post(&retry, "").status, 200);
        assert_eq!(shown(&app, "bad"), (json!(11), json!([2, 1]), 2, 2), "{view}: the retry counts");

        let correction = json!({ "takesBack": id }).to_string();
        if !kill.is_empty() {
            let failpoint = vec![("MILLRACE_FAILPOINTS".to_owned(), kill.to_owned())];
            app.restart_with(|start| start.environment = failpoint);
        }
        let body = Some(("application/json", correction.as_bytes()));
        // The kill may come before the answer; then the client sends its correction again.
        let answer = app.client().try_request("POST", "/v1/streams/refunds/events", body);
        if let Ok(answer) = &answer {
            assert_eq!(answer.status, 200, "{view}: {}", answer.text());
        }
        if !kill.is_empty() {
            wait_for("the kill", || app.is_gone());
        }
        app.restart_with(|start| start.environment = Vec::new());
        if answer.is_err() {
            assert_eq!(app.client().post("/v1/streams/refunds/events", &correction).status, 200);
        }
        assert_eq!(shown(&app, "bad"), before, "{view}, killed at `{kill}`");
        let again = app.client().post(APPLIED, &correction);
        assert_eq!((again.status, &again.json()["applied"]), (200, &json!(true)), "{}", again.text());
        assert_eq!(shown(&app, "bad"), before, "{view}: a second correction has no effect");
        let receipt = app.client().get(&format!("/v1/events/{id}")).json();
        for view in VIEWS {
            assert_eq!(receipt["views"][view]["state"], "taken-back", "{receipt}");
        }
        same_as_log(&app);
    }
    // A rebuild comes to the same rows, and an erasure undoes nothing twice.
    for view in ["refunds", "counts", "entries"] {
        app.sql("DELETE FROM entries");
        let rebuilt = app.client().post(&format!("/v1/views/{view}/rebuild"), "");
        assert_eq!(rebuilt.status, 200, "{}", rebuilt.text());
    }
    assert_eq!(shown(&app, "bad"), before);
    sent(&app, &event_of("good", 3));
    let erased = app.client().post("/v1/streams/refunds/erasures", &json!({ "value": "bad" }).to_string());
    assert_eq!(erased.status, 200, "{}", erased.text());
    assert_eq!(shown(&app, "bad"), (Value::Null, json!([0, 0]), 0, 0));
    assert_eq!(shown(&app, "good"), (json!(3), json!([1, 1]), 1, 1));
    same_as_log(&app);
}

#[test]
fn a_dead_letter_that_was_retried_with_another_text_cannot_be_taken_back() {
    let (app, path) = with_a_dead_letter();
    let letter = app.client().get("/v1/dead-letters").json()["deadLetters"][0].clone();
    assert_eq!(app.client().post(&path, &refund(10)).status, 200);
    app.settle();
    let answer = app.client().post(EVENTS, &json!({ "takesBack": letter["eventId"] }).to_string());
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(answer.text().contains("was retried with another text"), "{}", answer.text());
    assert_eq!(balance(&app), 11);
}

#[test]
fn a_dead_letter_can_be_taken_back_while_its_retry_waits_for_the_view() {
    let (app, path) = with_a_dead_letter();
    let letter = app.client().get("/v1/dead-letters").json()["deadLetters"][0].clone();
    app.sql("ALTER TABLE refunds RENAME TO away");
    assert_eq!(app.client().post(&path, "").json()["status"], "retrying");
    let answer = app.client().post(EVENTS, &json!({ "takesBack": letter["eventId"] }).to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    wait_for("the view to pause", || app.view("refunds")["state"] == "paused");
    app.sql("ALTER TABLE away RENAME TO refunds");
    app.settle();
    assert_eq!(balance(&app), 1);
    assert_eq!(app.client().post("/v1/views/refunds/reconcile", "").json()["differenceCount"], 0);
}

/// The two events have the same id. Each is corrected by its own event id.
#[test]
fn a_retried_dead_letter_of_dedup_is_taken_back_without_the_event_that_had_its_id() {
    let mut app = of_every_kind(StoreKind::from_env());
    let named = |cents: u32| {
        let mut event = event_of("u", cents);
        event["id"] = "x".into();
        event
    };
    sent(&app, &named(1));
    app.restart();
    let letter = sent(&app, &named(7))["deadLetters"][0].clone();
    assert_eq!(letter["view"], "dedup");
    let correction = json!({ "takesBack": letter["eventId"] });
    let refused = app.client().post(APPLIED, &correction.to_string());
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(refused.text().contains("never counted, because its id was used before"), "{}", refused.text());
    assert_eq!(shown(&app, "u"), (json!(1), json!([1, 1]), 1, 1));
    let retry = format!("/v1/dead-letters/{}/retry", letter["id"].as_str().unwrap());
    assert_eq!(app.client().post(&retry, "").status, 200);
    assert_eq!(shown(&app, "u"), (json!(8), json!([2, 1]), 2, 2));
    assert_eq!(sent(&app, &correction)["applied"], true);
    assert_eq!(shown(&app, "u"), (json!(1), json!([1, 1]), 1, 1));
    same_as_log(&app);
    assert_eq!(sent(&app, &json!({ "takesBack": "x" }))["applied"], true);
    assert_eq!(shown(&app, "u"), (json!(0), json!([0, 0]), 0, 0));
    same_as_log(&app);
}

/// The view applies the event this time, so that its retry must not count in addition.
#[test]
fn a_store_set_back_before_a_dead_letter_counts_the_event_and_its_retry_once() {
    let mut app = of_every_kind(StoreKind::from_env());
    if app.stored.store_kind.skip_unless_sqlite("the test copies the file of the store") {
        return;
    }
    sent(&app, &event_of("bad", 1));
    app.stop();
    let copy = app.folder.path().join("older.db");
    std::fs::copy(app.data().join("millrace.db"), &copy).unwrap();
    app.restart();
    app.stored.refuse("refunds", "who", "bad");
    let answer = sent(&app, &event_of("bad", 10));
    app.stored.stop_refusing("refunds");
    let retry = format!("/v1/dead-letters/{}/retry", answer["deadLetters"][0]["id"].as_str().unwrap());
    assert_eq!(app.client().post(&retry, "").status, 200);
    assert_eq!(shown(&app, "bad").0, 11);
    app.stop();
    app.stored.delete_all();
    std::fs::copy(&copy, app.data().join("millrace.db")).unwrap();
    app.restart();
    assert_eq!(shown(&app, "bad"), (json!(11), json!([2, 1]), 2, 2));
    assert_eq!(sent(&app, &json!({ "takesBack": answer["eventId"] }))["applied"], true);
    assert_eq!(shown(&app, "bad"), (json!(1), json!([1, 1]), 1, 1));
    same_as_log(&app);
}

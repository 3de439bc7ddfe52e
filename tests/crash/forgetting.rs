//! Erasures and retention that are interrupted at every step. The next start completes them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use event::Millis;
use millrace::log::{Entry, EventLog, Header, RecordBuilder, Shape};
use serde_json::{Value, json};

use crate::failpoints::{abort, set};
use crate::harness::{Client, TestApp, configure, occurs, wait_for};
use crate::kills::start;

const PERSON: &str = "someone@example.com";
const APPLIED: &str = "/v1/streams/revenue/events?wait=applied";
const ERASURES: &str = "/v1/streams/revenue/erasures";
const DAY: i64 = 24 * 3600 * 1000;

fn sale(user: &str, value: &str) -> String {
    format!(r#"{{"userId":"{user}","name":"add_revenue","value":{value},"note":"about {user}"}}"#)
}

fn send(client: &Client, event: &str) -> String {
    let answer = client.post(APPLIED, event);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["eventId"].as_str().unwrap().to_owned()
}

/// Returns a server with events of a person and of another user. The reason of a correction names the person too.
fn with_a_person() -> TestApp {
    let app = TestApp::with(start(""));
    let client = app.client();
    let first = send(&client, &sale(PERSON, "1"));
    for value in ["0.1", "0.2", "99999999.9999"] {
        send(&client, &sale(PERSON, value));
        send(&client, &sale("other", value));
    }
    send(&client, &json!({ "takesBack": first, "reason": format!("{PERSON} said so") }).to_string());
    app
}

fn request() -> String {
    json!({ "value": PERSON }).to_string()
}

fn erasures(app: &TestApp) -> Vec<Value> {
    app.client().get("/v1/erasures").json()["erasures"].as_array().unwrap().clone()
}

fn wait_for_erasure(app: &TestApp) {
    wait_for("the erasure to be done", || erasures(app).iter().all(|one| one["doneAt"].is_string()));
}

fn nothing_of_the_person_is_left(app: &TestApp, point: &str) {
    assert_eq!((erasures(app).len(), &erasures(app)[0]["events"]), (1, &json!(4)), "{point}");
    assert_eq!(app.balance(PERSON), None, "{point}");
    assert_eq!(app.balance("other").as_deref(), Some("100000000.2999"), "{point}");
    assert!(!occurs(&app.data(), PERSON), "{point}");
    assert!(occurs(&app.data(), "about other"), "{point}: the text of others is unchanged");
    let report = app.client().post("/v1/views/revenue/reconcile", "").json();
    assert_eq!(report["differenceCount"], 0, "{point}: {report}");
    let again = app.client().post(ERASURES, &request());
    assert_eq!((again.status, &again.json()["events"]), (200, &json!(0)), "{point}");
}

pub fn while_erasing(point: &str) {
    let mut app = with_a_person();
    set(&mut app, &abort(point, 1)).unwrap();
    let asked = app.client().try_request("POST", ERASURES, Some(("application/json", request().as_bytes())));
    assert!(asked.is_err(), "{point} was not hit");
    set(&mut app, "").unwrap();
    wait_for_erasure(&app);
    nothing_of_the_person_is_left(&app, point);
}

/// Dedup is slow here, so that there are always events that it has not yet checked.
#[test]
fn repeats_that_arrive_during_an_erasure_are_not_undone_with_the_first() {
    let mut app = TestApp::with(start("dedup.judged=sleep:100"));
    let client = app.client();
    send(&client, &sale(PERSON, "1"));
    let named = sale(PERSON, "5").replacen('{', r#"{"id":"once","#, 1);
    send(&client, &named);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                assert_eq!(client.post("/v1/streams/revenue/events", &named).status, 200);
            }
        });
        wait_for("repeats", || app.log_end() > 20);
        let erased = client.post(ERASURES, &request());
        over.store(true, Ordering::Relaxed);
        assert!([200, 202].contains(&erased.status), "{}", erased.text());
    });
    set(&mut app, "").unwrap();
    wait_for_erasure(&app);
    app.settle();
    assert_eq!(app.balance(PERSON), None, "a repeat that never counted is not undone");
    assert_eq!(app.client().post(ERASURES, &request()).status, 200);
    assert_eq!(app.balance(PERSON), None);
    assert!(!occurs(&app.data(), PERSON), "the second request also erases repeats that came after the first");
}

#[test]
fn an_erasure_waits_for_a_paused_view() {
    let app = with_a_person();
    let rename = |from: &str, to: &str| {
        app.database().execute_batch(&format!("ALTER TABLE {from} RENAME TO {to}")).unwrap();
    };
    rename("users_revenue", "elsewhere");
    let client = app.client();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| client.post(ERASURES, &request()));
        wait_for("the view to be paused", || app.view("revenue")["state"] == "paused");
        assert_eq!(erasures(&app)[0]["doneAt"], Value::Null);
        assert!(occurs(&app.data().join("journal"), PERSON), "the event must first be undone");
        rename("elsewhere", "users_revenue");
        let answer = asked.join().unwrap();
        assert!([200, 202].contains(&answer.status), "{}", answer.text());
    });
    wait_for_erasure(&app);
    nothing_of_the_person_is_left(&app, "a table that was missing");

    // The same with a kill and a start at which the table is still missing.
    let mut app = with_a_person();
    let rename = |app: &TestApp, from: &str, to: &str| {
        app.database().execute_batch(&format!("ALTER TABLE {from} RENAME TO {to}")).unwrap();
    };
    set(&mut app, &abort("erasure.noted", 1)).unwrap();
    rename(&app, "users_revenue", "elsewhere");
    let asked = app.client().try_request("POST", ERASURES, Some(("application/json", request().as_bytes())));
    assert!(asked.is_err());
    set(&mut app, "").unwrap();
    wait_for("the view to be paused", || app.view("revenue")["state"] == "paused");
    assert_eq!(erasures(&app)[0]["doneAt"], Value::Null);
    rename(&app, "elsewhere", "users_revenue");
    wait_for_erasure(&app);
    nothing_of_the_person_is_left(&app, "a table that was missing at a start");
}

const RETENTION: &str = r#"
[retention]
log = "30d"
streams = { site_events = "10d" }
rows = { site_events = "10d" }
"#;

/// Returns a server whose log has a sale and a visit of each of three ages: too old for the log, too old for a visit
/// only, and new.
fn with_old_events() -> TestApp {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    fill(&data);
    let app = TestApp::with_folder(start(""), folder);
    app.settle();
    app
}

fn fill(data: &Path) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (log, _) = EventLog::open("journal:", data).unwrap();
    for age in [60, 20, 0] {
        let received = Millis(Millis::now().0 - age * DAY);
        let visit = format!(r#"{{"site_id":"s","event_type":"view","path":"/{age}"}}"#);
        for (stream, text) in [("revenue", sale("ann", "1.5")), ("site_events", visit)] {
            let mut record = RecordBuilder::new(&Header::of(stream, received), Shape::default(), 0);
            record.push(&Entry { text: &text, ..Entry::default() });
            runtime.block_on(log.append(&record)).unwrap();
        }
        log.seal().unwrap();
    }
    log.close().unwrap();
    // Without this file, the age of an event is taken from its receive time.
    std::fs::remove_file(data.join("log-ages.json")).unwrap();
}

fn ids(app: &TestApp, stream: &str) -> Vec<String> {
    let (mut ids, mut next) = (Vec::new(), 0);
    while next < app.log_end() {
        let page = app.client().get(&format!("/v1/streams/{stream}/events?from={next}")).json();
        let id = |event: &Value| event["id"].as_str().unwrap().to_owned();
        ids.extend(page["events"].as_array().unwrap().iter().map(id));
        next = page["next"].as_u64().unwrap();
    }
    ids
}

fn paths(app: &TestApp) -> Vec<Value> {
    let rows = app.client().get("/v1/views/site_events/rows").json();
    rows["rows"].as_array().unwrap().iter().map(|row| row["path"].clone()).collect()
}

pub fn while_deleting_old_events(point: &str) {
    let mut app = with_old_events();
    let (sales, visits) = (ids(&app, "revenue"), ids(&app, "site_events"));
    assert_eq!((sales.len(), visits.len(), app.stop()), (3, 3, Some(0)));
    configure(app.folder.path(), RETENTION);
    if set(&mut app, &abort(point, 1)).is_ok() {
        wait_for(&format!("{point} to be hit"), || app.is_gone());
    }
    set(&mut app, "").unwrap();
    let begin = || app.anonymous().get("/ready").json()["log"]["begin"].clone();
    wait_for("old events to be deleted", || begin() == 2);
    let client = app.client();
    let receipt = |id: &str| client.get(&format!("/v1/events/{id}"));
    assert_eq!((app.log_end(), paths(&app)), (6, vec![json!("/0")]), "{point}");
    assert_eq!((receipt(&sales[0]).status, receipt(&visits[0]).status), (404, 404), "{point}");
    let blanked = receipt(&visits[1]).json();
    assert_eq!((&blanked["erased"], &blanked["event"]), (&json!(true), &Value::Null), "{point}");
    for whole in [&sales[1], &sales[2], &visits[2]] {
        assert!(receipt(whole).json()["event"].is_object(), "{point}");
    }
    assert!(!occurs(&app.data().join("journal"), "/60"), "{point}");
    assert!(!occurs(&app.data().join("journal"), "/20"), "{point}");
    assert_eq!(app.balance("ann").as_deref(), Some("4.5"), "{point}: a deleted event stays counted");
    assert_eq!(client.get("/stats?site_id=s").json()["total_views"], 3, "{point}");
    for view in ["revenue", "site_stats", "site_events"] {
        for ask in ["reconcile", "rebuild"] {
            let refused = client.post(&format!("/v1/views/{view}/{ask}"), "");
            let words = "retention has deleted events below position 2 of the log";
            assert_eq!(refused.status, 409, "{point}: {}", refused.text());
            assert!(refused.text().contains(words), "{point}: {}", refused.text());
        }
    }
    let correction = json!({ "takesBack": sales[0] }).to_string();
    assert_eq!(client.post(APPLIED, &correction).status, 400, "{point}: the event no longer exists");
    assert_eq!(client.post(APPLIED, &json!({ "takesBack": sales[1] }).to_string()).status, 200);
    assert_eq!(app.balance("ann").as_deref(), Some("3"), "{point}");
}

#[test]
fn a_view_that_is_no_longer_configured_is_reported_and_can_be_dropped() {
    let mut app = TestApp::with(start(""));
    let own = "[stream.refunds]\nkey = \"who\"\nfields.who = { type = \"text\", required = true }\n\
               fields.amount = { type = \"decimal\", required = true }\n";
    let view = "[view.refunds]\nkind = \"ledger\"\nfrom = \"refunds\"\namount = \"+amount\"\n\
                key_column = \"who\"\namount_column = \"amount\"\n";
    let configure = |app: &mut TestApp, text: &str| {
        configure(app.folder.path(), text);
        set(app, "").unwrap();
    };
    let drop_view = |app: &TestApp| app.command(&["view", "drop", "refunds"]);
    let warning = |app: &TestApp| app.log_text().contains("run `millrace view drop refunds`");
    configure(&mut app, &format!("{own}{view}"));
    let refund = r#"{"who":"ann","amount":2}"#;
    assert_eq!(app.client().post("/v1/streams/refunds/events?wait=applied", refund).status, 200);
    let refused = drop_view(&app);
    let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && stderr.contains("is configured"), "{stderr}");
    // The deduplicator's position is stored under its older name.
    for name in ["dedup", "gate"] {
        assert_eq!(app.client().request("DELETE", &format!("/v1/views/{name}"), None).status, 409, "{name}");
    }
    assert_eq!(app.anonymous().request("DELETE", "/v1/views/refunds", None).status, 401);
    assert!(!warning(&app));

    configure(&mut app, own);
    assert!(warning(&app), "{}", app.log_text());
    assert!(drop_view(&app).status.success());
    assert_eq!(drop_view(&app).status.code(), Some(5), "the view no longer exists");
    let kept: String = app
        .database()
        .query_row("SELECT amount FROM refunds WHERE who = 'ann'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(kept, "2", "the table belongs to the user");
    configure(&mut app, own);
    assert!(!warning(&app));
    // With a new table, the view starts again and counts the whole log.
    app.database().execute_batch("DROP TABLE refunds").unwrap();
    configure(&mut app, &format!("{own}{view}"));
    app.settle();
    assert_eq!(app.client().get("/v1/views/refunds/balances/ann").json()["balance"], 2);
}

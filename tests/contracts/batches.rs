//! `batch` of a view: its events wait until there are enough of them, or until the oldest one is old enough.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Start, TestApp, configure, wait_for};

const SALES: &str = "/v1/streams/sales/events";
const NOISE: &str = "/v1/streams/noise/events";

/// Starts a server with a view `sales` that has this `batch`, and a view `noise` of another stream without one.
fn with_batch(batch: &str) -> TestApp {
    TestApp::configured(&format!(
        r#"
presets = []
[stream.sales]
key = "who"
fields.who = {{ type = "text", required = true }}
[view.sales]
kind = "table"
from = "sales"
batch = {batch}
[stream.noise]
key = "who"
fields.who = {{ type = "text", required = true }}
fields.cents = {{ type = "integer", required = true }}
[view.noise]
kind = "ledger"
from = "noise"
amount = "+cents"
"#
    ))
}

fn send(app: &TestApp, who: &str) -> Value {
    let answer = app.client().post(SALES, &json!({ "who": who }).to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn send_lines(app: &TestApp, path: &str, lines: usize) {
    let line = |number: usize| format!("{{\"who\":\"u{number}\",\"cents\":1}}\n");
    let lines: String = (0..lines).map(line).collect();
    let answer = app.client().post_lines(path, &lines);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Waits until the other view has applied everything, so that view `sales` had time for it, too.
fn apply_noise(app: &TestApp) {
    let body = json!({ "who": "n", "cents": 1 }).to_string();
    let answer = app.client().post(&format!("{NOISE}?wait=applied"), &body);
    assert_eq!((answer.status, &answer.json()["applied"]), (200, &json!(true)), "{}", answer.text());
}

fn rows(app: &TestApp) -> String {
    app.sql("SELECT COUNT(*) FROM sales")
}

fn position(app: &TestApp) -> u64 {
    app.view("sales")["position"].as_u64().unwrap()
}

/// Returns the numbers of events in the log lines about batches of a view.
fn logged(app: &TestApp, message: &str, view: &str) -> Vec<u64> {
    let text = app.log_text();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of_view = lines.filter(|line| line["message"] == message && line["view"] == view);
    of_view.map(|line| line["events"].as_u64().unwrap()).collect()
}

fn saved(app: &TestApp) -> Vec<u64> {
    logged(app, "batch saved", "sales")
}

/// Waits until the log has the lines about these batches of view `sales`, which it may get later than the table has the
/// rows. Fails if there are others.
fn expect_saved(app: &TestApp, events: &[u64]) {
    let what = format!("the batches {events:?}");
    wait_for(&what, || saved(app).len() >= events.len());
    assert_eq!(saved(app), events);
}

#[test]
fn a_lone_event_is_in_the_table_when_it_is_old_enough() {
    let app = with_batch(r#"{ events = 100, age = "1500ms" }"#);
    let begun = Instant::now();
    let answer = app.client().post(&format!("{SALES}?wait=applied"), &json!({ "who": "u" }).to_string());
    let waited = begun.elapsed();
    assert_eq!((answer.status, &answer.json()["applied"]), (200, &json!(true)), "{}", answer.text());
    assert!(waited >= Duration::from_millis(1500), "it did not wait: {waited:?}");
    assert!(waited < Duration::from_secs(15), "it waited for too long: {waited:?}");
    assert_eq!(rows(&app), "1");
}

#[test]
fn enough_events_are_applied_at_once_and_the_rest_waits() {
    let mut app = with_batch(r#"{ events = 3, age = "1h" }"#);
    send(&app, "a");
    send(&app, "b");
    apply_noise(&app);
    assert_eq!((position(&app), saved(&app)), (0, vec![]));
    send(&app, "c");
    wait_for("the batch", || position(&app) >= 3);
    assert_eq!(rows(&app), "3");
    send_lines(&app, SALES, 7);
    wait_for("two more batches", || saved(&app).len() == 3);
    apply_noise(&app);
    assert_eq!(rows(&app), "9");
    expect_saved(&app, &[3, 3, 3]);
    assert_eq!(logged(&app, "batch received", "sales"), [3, 3, 3]);
    assert!(logged(&app, "batch saved", "noise").is_empty(), "a view without the setting has no such lines");
    assert_eq!(app.stop(), Some(0));
    assert_eq!(rows(&app), "10");
}

#[test]
fn a_stop_applies_the_waiting_events() {
    let mut app = with_batch(r#"{ events = 100, age = "1h" }"#);
    send(&app, "a");
    send(&app, "b");
    apply_noise(&app);
    expect_saved(&app, &[]);
    assert_eq!(app.stop(), Some(0));
    assert_eq!(rows(&app), "2");
    expect_saved(&app, &[2]);
    wait_for("the line", || app.log_line("views have applied everything").is_some());
}

#[test]
fn events_that_waited_when_the_process_was_killed_are_applied_once() {
    let mut app = with_batch(r#"{ events = 100, age = "2s" }"#);
    send_lines(&app, SALES, 20);
    app.restart();
    send(&app, "after");
    app.settle();
    assert_eq!(rows(&app), "21");
}

#[test]
fn events_of_other_streams_do_not_end_the_wait_and_one_batch_reaches_across_them() {
    let app = with_batch(r#"{ events = 3, age = "1h" }"#);
    for who in ["a", "b"] {
        send(&app, who);
        send_lines(&app, NOISE, 10_000);
        apply_noise(&app);
        assert_eq!((position(&app), saved(&app)), (0, vec![]), "after {who}");
    }
    send(&app, "c");
    app.settle();
    assert_eq!(rows(&app), "3");
    expect_saved(&app, &[3]);
}

#[test]
fn a_view_that_is_far_behind_applies_full_batches_one_after_the_other() {
    let mut app = with_batch(r#"{ events = 1000, age = "1h" }"#);
    send_lines(&app, SALES, 20_500);
    wait_for("the full batches", || position(&app) >= 20_000);
    expect_saved(&app, &[1_000; 20]);
    assert_eq!(app.stop(), Some(0));
    assert_eq!(rows(&app), "20500");
    expect_saved(&app, &[[1_000; 20].as_slice(), &[500]].concat());
}

#[test]
fn a_rebuild_does_not_wait_for_a_batch() {
    let mut app = with_batch(r#"{ events = 3, age = "1h" }"#);
    send_lines(&app, SALES, 3);
    app.settle();
    send(&app, "waits");
    app.sql("UPDATE sales SET who = 'wrong' WHERE who = 'u1'");
    let answer = app.client().post("/v1/views/sales/rebuild", "");
    assert_eq!((answer.status, &answer.json()["differenceCount"]), (200, &json!(1)), "{}", answer.text());
    assert_eq!(app.sql("SELECT COUNT(*) FROM sales WHERE who = 'u1'"), "1");
    assert_eq!((position(&app), rows(&app)), (3, "3".to_owned()));
    assert_eq!(app.stop(), Some(0));
    assert_eq!(rows(&app), "4");
}

#[test]
fn an_erasure_does_not_wait_for_a_batch() {
    let app = with_batch(r#"{ events = 100, age = "1h" }"#);
    send(&app, "ann");
    send(&app, "bob");
    let answer = app.client().post("/v1/streams/sales/erasures", &json!({ "value": "ann" }).to_string());
    assert_eq!((answer.status, &answer.json()["events"]), (200, &json!(1)), "{}", answer.text());
    assert_eq!(app.sql("SELECT who FROM sales"), "bob");
}

#[test]
fn a_repeat_and_a_correction_of_waiting_events_count_as_they_do_without_batches() {
    let app = with_batch(r#"{ events = 100, age = "2s" }"#);
    let kept = json!({ "id": "kept", "who": "kept" }).to_string();
    assert_eq!(app.client().post(SALES, &kept).status, 200);
    let wrong = send(&app, "wrong");
    assert_eq!(app.client().post(SALES, &kept).status, 200);
    apply_noise(&app);
    let correction = json!({ "takesBack": wrong["eventId"] }).to_string();
    assert_eq!(app.client().post(SALES, &correction).status, 200);
    assert!(saved(&app).is_empty(), "nothing is applied before it is old enough");
    app.settle();
    assert_eq!(app.sql("SELECT who FROM sales"), "kept");
}

#[test]
fn a_view_that_was_mended_applies_its_events_without_a_second_wait() {
    let app = with_batch(r#"{ events = 2, age = "1h" }"#);
    send_lines(&app, SALES, 2);
    app.settle();
    app.sql("ALTER TABLE sales RENAME TO away");
    send_lines(&app, SALES, 3);
    wait_for("the view to pause", || app.view("sales")["state"] == "paused");
    app.sql("ALTER TABLE away RENAME TO sales");
    // The third event, too: it was ready when the view failed, and only a new attempt shows whether the view works.
    app.settle();
    assert_eq!((rows(&app), app.view("sales")["state"].clone()), ("5".to_owned(), json!("running")));
}

fn stock(app: &TestApp) {
    let body = json!({ "productId": 1, "productName": "p", "quantity": 1, "price": 1 }).to_string();
    assert_eq!(app.client().post("/v1/streams/inventory/events", &body).status, 200);
}

fn with_dotenv(config: Option<&str>, dotenv: &str) -> TestApp {
    let arguments = ["--listen", "localhost:0"].map(str::to_owned).to_vec();
    let (config, dotenv) = (config.map(str::to_owned), Some(dotenv.to_owned()));
    TestApp::with(Start { config, arguments, dotenv, ..Start::default() })
}

#[test]
fn the_batches_of_the_replaced_inventory_service_are_honoured_and_logged() {
    let mut app = with_dotenv(None, "BATCH_SIZE=2\nBATCH_INTERVAL=3600000\n");
    for variable in ["BATCH_SIZE", "BATCH_INTERVAL"] {
        assert!(app.log_text().contains(&format!(r#""variable":"{variable}""#)), "{}", app.log_text());
    }
    (0..3).for_each(|_| stock(&app));
    wait_for("the first two", || logged(&app, "batch saved", "inventory") == [2]);
    assert_eq!(app.sql("SELECT COUNT(*) FROM inventory"), "2");
    assert_eq!(app.stop(), Some(0));
    assert_eq!(app.sql("SELECT COUNT(*) FROM inventory"), "3");

    let checked = app.command(&["config", "check"]);
    let line =
        "batches of view `inventory`: 2 events or 3600000 ms, from BATCH_SIZE and BATCH_INTERVAL in .env";
    let text = String::from_utf8(checked.stderr).unwrap();
    assert!(text.lines().any(|shown| shown == line), "{text}");
    let shown = String::from_utf8(app.command(&["config", "show"]).stdout).unwrap();
    assert!(shown.contains(r#"batch = { events = 2, age = "3600000ms" }"#), "{shown}");
}

#[test]
fn the_file_wins_over_the_batches_of_the_replaced_service() {
    let view = "[view.inventory]\nkind = \"table\"\nfrom = \"inventory\"\n";
    let app = with_dotenv(Some(&format!("{view}batch = {{ events = 1 }}\n")), "BATCH_SIZE=1000\n");
    stock(&app);
    app.settle();
    let ignored = |app: &TestApp| {
        let line = app.log_line("setting of a replaced service is ignored");
        line.map(|line| line["reason"].clone())
    };
    let reason = "BATCH_SIZE in .env has no effect, because `[view.inventory] batch` is set";
    assert_eq!(ignored(&app), Some(json!(reason)));
    assert!(!app.log_text().contains(r#""variable":"BATCH_SIZE""#), "{}", app.log_text());
    // A view in the file that says nothing about batches has those of the variables.
    configure(app.folder.path(), view);
    let shown = String::from_utf8(app.command(&["config", "show"]).stdout).unwrap();
    assert!(shown.contains(r#"batch = { events = 1000, age = "5000ms" }"#), "{shown}");

    let app = with_dotenv(Some("presets = [\"revenue\"]\n"), "BATCH_INTERVAL=10\n");
    let reason = "BATCH_INTERVAL in .env has no effect, because preset `inventory` is not on";
    assert_eq!(ignored(&app), Some(json!(reason)));
}

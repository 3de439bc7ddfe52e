//! `millrace export` and `millrace import`.

use serde_json::Value;

use crate::harness::{TestApp, wait_for};
use crate::{failed, lines_of_json, run, sell, set_row, stderr, stdout, with_table};

const EVENTS: &str = "/v1/streams/revenue/events";

fn export(app: &TestApp, arguments: &[&str]) -> String {
    run(app, &[&["export", "revenue"], arguments].concat())
}

/// Imports lines into another server, and returns the exit code and the outcome.
fn import(app: &TestApp, name: &str, lines: &str, arguments: &[&str]) -> (Option<i32>, Value) {
    std::fs::write(app.folder.path().join(name), lines).unwrap();
    let output = app.command(&[&["import", name, "--json"], arguments].concat());
    let text = stdout(&output);
    let outcome = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{}", stderr(&output)));
    (output.status.code(), outcome)
}

fn balances(app: &TestApp) -> String {
    app.settle();
    app.client().get("/v1/views/revenue/balances").text()
}

/// Starts a server with sales that were sent in every way there is, some of them twice.
fn with_sales() -> TestApp {
    let app = TestApp::start();
    sell(&app, "user1", "999999999999999.9999");
    // A repeat without an id is a new event. In contract 1, `id` is data.
    let odd = r#"{"userId":"user2","name":"subtract_revenue","value":0.0001, "id": [1.10]}"#;
    (0..2).for_each(|_| assert_eq!(app.client().post("/liveEvent", odd).status, 200));
    let client = app.client();
    let line = |value: u32| {
        format!("{{\"id\":\"a\",\"userId\":\"user3\",\"name\":\"add_revenue\",\"value\":{value}}}\n")
    };
    (0..2).for_each(|_| assert_eq!(client.post_lines(EVENTS, &line(7)).status, 200));
    assert_eq!(client.post_lines(EVENTS, &line(8)).status, 200);
    let upload = client.with_header("Millrace-Upload", "s");
    let lines = "{\"userId\":\"user4\",\"name\":\"add_revenue\",\"value\":1}\n".repeat(3);
    (0..2).for_each(|_| assert_eq!(upload.post_lines(EVENTS, &lines).status, 200));
    app.settle();
    app
}

#[test]
fn an_export_imported_twice_gives_exactly_the_same_balances() {
    let app = with_sales();
    let lines = export(&app, &[]);
    assert!(
        lines
            .contains(r#""event":{"userId":"user2","name":"subtract_revenue","value":0.0001, "id": [1.10]}"#)
    );
    let left_out: Vec<u64> = lines_of_json(&lines)
        .iter()
        .filter(|line| line["leftOut"] == "repeat")
        .map(|line| line["position"].as_u64().unwrap())
        .collect();
    assert_eq!(left_out, [4, 5, 9, 10, 11]);

    let other = TestApp::start();
    // First import a part of the export that ends within a line.
    let half: usize = lines.split_inclusive('\n').take(4).map(str::len).sum();
    let (code, outcome) = import(&other, "half.jsonl", &lines[..half + 20], &[]);
    assert_eq!(
        (code, &outcome["events"], &outcome["rejected"]),
        (Some(6), &4.into(), &1.into()),
        "{outcome}"
    );
    let (code, outcome) = import(&other, "a.jsonl", &lines, &[]);
    assert_eq!((code, &outcome["rejected"]), (Some(0), &0.into()), "{outcome}");
    assert_eq!(balances(&other), balances(&app));
    assert!(balances(&other).contains("999999999999999.9999"));
    let end = other.log_end();
    let (_, outcome) = import(&other, "a.jsonl", &lines, &[]);
    assert_eq!((&outcome["events"], other.log_end()), (&0.into(), end), "{outcome}");
    // Under another file name all lines are sent again, and dedup skips them.
    import(&other, "b.jsonl", &lines, &[]);
    assert!(other.log_end() > end);
    assert_eq!(balances(&other), balances(&app));
    run(&other, &["view", "reconcile", "revenue"]);
    assert_eq!(run(&other, &["dead-letter", "list", "--json"]), "");
}

#[test]
fn a_range_of_positions_can_be_exported() {
    let app = with_sales();
    let positions = |arguments: &[&str]| -> Vec<u64> {
        lines_of_json(&export(&app, arguments))
            .iter()
            .map(|line| line["position"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(positions(&["--from", "2", "--until", "5"]), [2, 3, 4]);
    assert_eq!(positions(&["--from", "10"]), [10, 11]);
    assert_eq!(positions(&["--until", "0"]), [0; 0]);
    assert_eq!(positions(&["--from", "12"]), [0; 0]);
    assert!(
        failed(&app, 1, &["export", "revenue", "--from", "13"]).contains("beyond the end of the log, 12")
    );
    let first = &lines_of_json(&export(&app, &["--until", "1"]))[0];
    let keys: Vec<&str> = first.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys.len(), 6, "{keys:?}");
    assert!(first["address"].is_string() && first["receivedAt"].is_string());
    assert!(failed(&app, 5, &["export", "sales"]).contains("`sales`; choose one of `"));
}

#[test]
fn an_import_rejects_a_dead_letter_that_was_retried_for_one_view() {
    let app = with_table(&[("bad", "abc")]);
    sell(&app, "bad", "1");
    app.settle();
    set_row(&app, "bad", "0");
    run(&app, &["dead-letter", "retry", "--all"]);
    wait_for("the dead letter to be applied", || run(&app, &["view", "balance", "revenue", "bad"]) == "1\n");
    let line = |value: u32| {
        format!("{{\"id\":\"a\",\"userId\":\"u\",\"name\":\"add_revenue\",\"value\":{value}}}\n")
    };
    [1, 5].iter().for_each(|value| assert_eq!(app.client().post_lines(EVENTS, &line(*value)).status, 200));
    app.settle();
    run(&app, &["dead-letter", "retry", "--all", "--view", "dedup"]);
    wait_for("the retried event to count", || run(&app, &["view", "balance", "revenue", "u"]) == "6\n");

    let other = TestApp::start();
    let (code, outcome) = import(&other, "a.jsonl", &export(&app, &[]), &[]);
    assert_eq!(
        (code, &outcome["events"], &outcome["rejected"]),
        (Some(6), &3.into(), &1.into()),
        "{outcome}"
    );
    let rejected = std::fs::read_to_string(other.folder.path().join("a.jsonl.revenue.rejected")).unwrap();
    assert!(rejected.contains("sent again for view `revenue` only"), "{rejected}");
    assert_eq!(balances(&other), balances(&app));
}

#[test]
fn corrected_events_are_exported_but_not_imported() {
    let app = TestApp::start();
    let sent = ["1", "2"].map(|value| {
        let body = format!(r#"{{"userId":"u","name":"add_revenue","value":{value}}}"#);
        app.client().post(EVENTS, &body).json()["eventId"].as_str().unwrap().to_owned()
    });
    let correction = format!(r#"{{"takesBack":"{}","reason":"a mistake"}}"#, sent[1]);
    let corrected = app.client().post(EVENTS, &correction);
    assert_eq!(corrected.status, 200, "{}", corrected.text());
    app.settle();
    let lines = export(&app, &[]);
    let left_out: Vec<Value> = lines_of_json(&lines).iter().map(|line| line["leftOut"].clone()).collect();
    assert_eq!(left_out, [Value::Null, "taken-back".into(), "correction".into()]);
    assert_eq!(lines_of_json(&lines)[2]["takesBack"], sent[1].as_str());
    let other = TestApp::start();
    let (code, outcome) = import(&other, "a.jsonl", &lines, &[]);
    assert_eq!(
        (code, &outcome["events"], &outcome["rejected"]),
        (Some(0), &1.into(), &0.into()),
        "{outcome}"
    );
    assert_eq!(balances(&other), balances(&app));
    assert_eq!(other.balance("u").as_deref(), Some("1"));
}

#[test]
fn import_refuses_other_files_and_exports_of_the_same_server() {
    let app = with_sales();
    let (end, name) = (app.log_end(), "own.jsonl");
    let path = app.folder.path().join(name);
    std::fs::write(&path, export(&app, &[])).unwrap();
    let output = app.command(&["import", name]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output).matches("was exported from this server").count(), 1, "{}", stderr(&output));
    std::fs::write(&path, "{\"userId\":\"u\",\"name\":\"add_revenue\",\"value\":1}\n").unwrap();
    let output = app.command(&["import", name]);
    assert!(stderr(&output).contains("`millrace send`"), "{}", stderr(&output));
    assert_eq!(app.log_end(), end);
    let body = export(&app, &["--until", "1"]);
    let answer = app.client().post(&format!("{EVENTS}?exported=revenue"), &body);
    assert_eq!((answer.status, app.log_end()), (415, end), "{}", answer.text());
}

#[test]
fn the_largest_event_can_be_imported_into_another_stream() {
    let app = TestApp::start();
    let event = |more: usize| {
        let more = "x".repeat(more);
        format!(r#"{{"userId":"u","name":"add_revenue","value":1,"more":"{more}"}}"#)
    };
    let largest = event(1024 * 1024 - event(0).len());
    let sent = app.client().post(EVENTS, &largest);
    assert_eq!(sent.status, 200, "{}", sent.text());
    app.settle();
    let config = "[stream.sales]\nkey = \"userId\"\nfields.userId = { type = \"text\", required = true }\n";
    let other = TestApp::configured(config);
    let (code, outcome) = import(&other, "a.jsonl", &export(&app, &[]), &["--stream", "sales"]);
    assert_eq!((code, &outcome["events"]), (Some(0), &1.into()), "{outcome}");
    let there = other.client().get("/v1/streams/sales/events?from=0").text();
    assert!(there.contains(&largest));
}

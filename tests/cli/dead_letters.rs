//! `millrace dead-letter`. The events cannot be applied because the balance in their row is not a number.

use crate::harness::{TestApp, wait_for};
use crate::{failed, lines_of_json, run, sell, set_row, with_table};

fn dead_letters(app: &TestApp, status: &str) -> Vec<serde_json::Value> {
    lines_of_json(&run(app, &["dead-letter", "list", "--json", "--status", status]))
}

fn id_of(dead_letter: &serde_json::Value) -> &str {
    dead_letter["id"].as_str().unwrap()
}

#[test]
fn a_dead_letter_is_listed_repaired_and_applied() {
    let app = with_table(&[("bad", "abc"), ("good", "1")]);
    sell(&app, "bad", "999999999999999.9999");
    sell(&app, "good", "2");
    app.settle();
    assert_eq!(run(&app, &["view", "balance", "revenue", "good"]), "3\n");
    let open = dead_letters(&app, "open");
    let [dead_letter] = open.as_slice() else { panic!("{open:?}") };
    let id = id_of(dead_letter);
    assert!(
        dead_letter["reason"].as_str().unwrap().contains("column `revenue` holds text that is not a number"),
        "{dead_letter}"
    );
    let listed = run(&app, &["dead-letter", "list"]);
    assert!(
        listed.starts_with("ID ") && listed.contains(id) && listed.contains("is not a number"),
        "{listed}"
    );
    let shown = run(&app, &["dead-letter", "show", id]);
    assert!(shown.contains("\"value\":999999999999999.9999}"), "{shown}");

    let line = failed(&app, 6, &["dead-letter", "retry", id]);
    assert!(line.contains("is not a number"), "{line}");
    assert_eq!(dead_letters(&app, "open")[0]["attempts"], 2);

    set_row(&app, "bad", "0.5");
    assert_eq!(run(&app, &["dead-letter", "retry", id]), format!("{id} applied\n"));
    assert_eq!(run(&app, &["view", "balance", "revenue", "bad"]), "1000000000000000.4999\n");
    assert_eq!((dead_letters(&app, "open").len(), dead_letters(&app, "applied").len()), (0, 1));
    assert!(failed(&app, 1, &["dead-letter", "retry", id]).contains("is applied, not open"));
}

#[test]
fn an_event_is_edited_in_a_file_and_refused_while_invalid() {
    let app = with_table(&[("bad", "abc")]);
    sell(&app, "bad", "1");
    app.settle();
    let dead_letter = dead_letters(&app, "all").remove(0);
    let id = id_of(&dead_letter);
    set_row(&app, "bad", "0");
    let line =
        failed(&app, 1, &["dead-letter", "retry", id, "--event", r#"{"userId":"bad","name":"add_revenue"}"#]);
    assert!(line.contains("value"), "{line}");
    let file = app.folder.path().join("edited.json");
    std::fs::write(&file, r#"{"userId":"bad","name":"add_revenue","value":1.0001}"#).unwrap();
    assert!(failed(&app, 1, &["dead-letter", "retry", id, "--edit", "-"]).contains("nothing was sent"));
    run(&app, &["dead-letter", "retry", id, "--edit", "edited.json"]);
    assert_eq!(run(&app, &["view", "balance", "revenue", "bad"]), "1.0001\n");
}

#[test]
fn retry_all_skips_dropped_dead_letters() {
    let app = with_table(&[("one", "x"), ("two", "y"), ("three", "z")]);
    ["one", "two", "three"].iter().for_each(|user| sell(&app, user, "7"));
    app.settle();
    let open = dead_letters(&app, "open");
    let third = open.iter().find(|dead_letter| dead_letter["event"]["userId"] == "three").unwrap();
    assert_eq!(run(&app, &["dead-letter", "drop", id_of(third)]), format!("{} dropped\n", id_of(third)));
    assert!(failed(&app, 1, &["dead-letter", "drop", id_of(third)]).contains("is dropped, not open"));
    ["one", "two", "three"].iter().for_each(|user| set_row(&app, user, "0"));
    assert_eq!(run(&app, &["dead-letter", "retry", "--all", "--view", "other"]), "");
    assert_eq!(run(&app, &["dead-letter", "retry", "--all"]).lines().count(), 2);
    wait_for("both to be applied", || dead_letters(&app, "applied").len() == 2);
    assert_eq!((dead_letters(&app, "dropped").len(), dead_letters(&app, "all").len()), (1, 3));
    let balances = ["one", "two", "three"].map(|user| run(&app, &["view", "balance", "revenue", user]));
    assert_eq!(balances, ["7\n", "7\n", "0\n"]);
}

#[test]
fn retry_all_skips_dead_letters_of_dedup_unless_named() {
    let app = TestApp::start();
    let line = |value: u32| format!(r#"{{"id":"a","userId":"u","name":"add_revenue","value":{value}}}"#);
    for value in [1, 5] {
        let sent = app.client().post_lines("/v1/streams/revenue/events", &line(value));
        assert_eq!(sent.status, 200, "{}", sent.text());
    }
    app.settle();
    assert_eq!(dead_letters(&app, "open")[0]["view"], "dedup");
    let output = app.command(&["dead-letter", "retry", "--all"]);
    assert!(
        crate::stderr(&output).contains("skipped 1 dead letter of view `dedup`"),
        "{}",
        crate::stderr(&output)
    );
    assert_eq!(run(&app, &["view", "balance", "revenue", "u"]), "1\n");
    run(&app, &["dead-letter", "retry", "--all", "--view", "dedup"]);
    wait_for("the retried event to count", || run(&app, &["view", "balance", "revenue", "u"]) == "6\n");
}

#[test]
fn an_invalid_id_and_an_unknown_id_get_different_errors() {
    let app = TestApp::start();
    assert!(failed(&app, 1, &["dead-letter", "show", "7"]).contains("is not the id of a dead letter"));
    failed(&app, 5, &["dead-letter", "show", "00000000-0000-5000-8000-000000000000"]);
    failed(&app, 5, &["dead-letter", "drop", "00000000-0000-5000-8000-000000000000"]);
}

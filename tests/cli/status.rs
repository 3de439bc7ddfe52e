//! `millrace status`, and the lists of streams and views.

use serde_json::Value;

use crate::harness::{TestApp, wait_for};
use crate::{database, failed, lines_of_json, run, sell};

fn json(app: &TestApp, arguments: &[&str]) -> Value {
    serde_json::from_str(&run(app, arguments)).unwrap()
}

#[test]
fn the_status_is_one_page_about_the_server() {
    let app = TestApp::start();
    sell(&app, "user1", "1");
    app.settle();
    let text = run(&app, &["status"]);
    for part in [
        &format!("millrace {} at http://{}, up for ", env!("CARGO_PKG_VERSION"), app.address),
        "events        accepted",
        "1 event, from position 0 to 1, ",
        "database      sqlite:data/millrace.db",
        " free of ",
        "presets       revenue, analytics, notifications, inventory",
        "dead letters  none open",
        "live_event",
        "/liveEvent",
        "VIEW",
        "ledger",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let status = json(&app, &["status", "--json"]);
    assert_eq!((&status["log"]["end"], &status["openDeadLetters"]), (&1.into(), &0.into()), "{status}");
    let views = status["views"].as_array().unwrap();
    assert!(views.iter().all(|view| view["state"] == "running" && view["lag"] == 0), "{status}");
    assert!(status["disk"]["freeBytes"].as_u64() <= status["disk"]["totalBytes"].as_u64());
    assert!(status["uptimeSeconds"].is_u64() && status["startedAt"].is_string(), "{status}");
}

#[test]
fn a_paused_view_is_shown_with_its_reason() {
    let app = TestApp::start();
    sell(&app, "user1", "1");
    app.settle();
    let before = database(&app);
    before.execute_batch("ALTER TABLE users_revenue RENAME TO kept").unwrap();
    sell(&app, "user1", "2");
    let state = |app: &TestApp| json(app, &["view", "show", "revenue", "--json"])["state"].clone();
    wait_for("the view to be paused", || state(&app) == "paused");
    let reason = "paused: table `users_revenue` does not exist";
    let shown = run(&app, &["view", "show", "revenue"]);
    assert!(shown.contains(reason) && shown.contains("millrace view rebuild"), "{shown}");
    for command in [&["status"][..], &["view", "list"]] {
        let text = run(&app, command);
        assert!(text.contains("view `revenue` is paused: table `users_revenue` does not exist"), "{text}");
    }
    let listed = lines_of_json(&run(&app, &["view", "list", "--json"]));
    let revenue = listed.iter().find(|view| view["name"] == "revenue").unwrap();
    assert_eq!((&revenue["lag"], &revenue["state"]), (&1.into(), &"paused".into()), "{revenue}");
    before.execute_batch("ALTER TABLE kept RENAME TO users_revenue").unwrap();
    wait_for("the view to go on", || state(&app) == "running");
    app.settle();
}

#[test]
fn streams_are_listed_with_their_fields_and_users() {
    let app = TestApp::start();
    let streams = lines_of_json(&run(&app, &["stream", "list", "--json"]));
    let revenue = streams.iter().find(|stream| stream["name"] == "revenue").unwrap();
    assert_eq!((&revenue["key"], &revenue["views"][0]), (&"userId".into(), &"revenue".into()), "{revenue}");
    assert_eq!(revenue["sources"][0], "live_event");
    let value = revenue["fields"].as_array().unwrap().iter().find(|field| field["name"] == "value").unwrap();
    assert_eq!(
        (&value["type"], &value["places"], &value["required"]),
        (&"decimal".into(), &4.into(), &true.into())
    );
    let text = run(&app, &["stream", "list"]);
    assert!(text.starts_with("STREAM ") && text.contains("userId text*"), "{text}");
}

#[test]
fn all_views_are_compared_with_one_command() {
    let app = TestApp::start();
    sell(&app, "user1", "100");
    app.settle();
    let reports = lines_of_json(&run(&app, &["view", "reconcile", "--all", "--json"]));
    let names: Vec<&str> = reports.iter().map(|report| report["view"].as_str().unwrap()).collect();
    assert_eq!(names, ["inventory", "notifications", "revenue", "site_events", "site_stats"]);
    crate::set_row(&app, "user1", "5");
    let output = app.command(&["view", "reconcile", "--all"]);
    assert_eq!(output.status.code(), Some(7));
    let text = crate::stderr(&output);
    assert!(
        text.contains("view `revenue` differs in 1 of 1 key, ") && text.contains("differs from 1 of 5 views"),
        "{text}"
    );
    assert!(text.contains("view `site_stats` matches its log"), "{text}");
    assert_eq!(app.command(&["view", "reconcile"]).status.code(), Some(2));
    assert_eq!(app.command(&["view", "reconcile", "revenue", "--all"]).status.code(), Some(2));
    assert!(failed(&app, 5, &["view", "show", "sales"]).contains("`revenue`"));
    run(&app, &["view", "rebuild", "revenue"]);
}

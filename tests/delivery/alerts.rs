//! Alerts reach their destination once, and once more when they are over.

use std::sync::Arc;

use serde_json::Value;

use crate::harness::mariadb::Mariadb;
use crate::harness::postgres::Postgres;
use crate::harness::receiver::{Behaviour, Receiver};
use crate::harness::small_disk::{SmallDisk, can_mount};
use crate::harness::{Start, StoreKind, TestApp, wait_for};
use crate::{STORES, config, config_errors, order};

/// Alerts go to `/ops` of the receiver, and notifications, which fail there, to `/hook`.
fn section(receiver: &Receiver) -> String {
    let webhook = |name: &str, url: &str, more: &str| {
        format!("[destination.{name}]\nkind = \"webhook\"\nurl = \"{url}\"\nallow_private = true\n{more}\n")
    };
    config(
        "[\"partner\"]",
        &(webhook("ops", &receiver.url("/ops"), "")
            + &webhook("partner", &receiver.url("/hook"), "retry = []")
            + "[alert]\nto = \"ops\"\n"),
    )
}

fn start(receiver: &Receiver, store_kind: StoreKind) -> TestApp {
    TestApp::with(Start { config: Some(section(receiver)), store_kind: Some(store_kind), ..Start::default() })
}

/// Runs a test on all databases at the same time, because alerts wait.
fn on_each_store(test: fn(StoreKind)) {
    std::thread::scope(|scope| {
        STORES.into_iter().for_each(|store_kind| drop(scope.spawn(move || test(store_kind))));
    });
}

/// Returns the alerts that arrived: condition, phase and message of each.
fn arrived(receiver: &Receiver) -> Vec<[String; 3]> {
    let alerts = receiver.requests().into_iter().filter(|request| request.path == "/ops");
    let told = alerts.map(|request| {
        let body: Value = serde_json::from_str(&request.body).unwrap();
        ["condition", "phase", "message"].map(|name| body["data"][name].as_str().unwrap().to_owned())
    });
    told.collect()
}

fn wait_for_alert(receiver: &Receiver, condition: &str, phase: &str) -> String {
    let found = || arrived(receiver).into_iter().find(|alert| alert[0] == condition && alert[1] == phase);
    wait_for(&format!("alert {condition} {phase}"), || found().is_some());
    found().unwrap()[2].clone()
}

#[test]
fn an_alert_about_a_paused_view_is_sent_once_also_across_a_restart() {
    on_each_store(pause_and_restart);
}

fn pause_and_restart(store_kind: StoreKind) {
    let receiver = Receiver::start();
    let mut app = start(&receiver, store_kind);
    order(&app.client(), "a@x.example", "");
    app.settle();
    app.sql("ALTER TABLE mails RENAME TO gone");
    order(&app.client(), "b@x.example", "");
    let message = wait_for_alert(&receiver, "view-paused mails", "raised");
    assert!(message.starts_with("View `mails` is paused: table `mails` does not exist"), "{message}");
    // A kill before that would repeat the alert, with the same id.
    let is_sent = || app.client().get("/v1/alerts").json()["alerts"][0]["sent"] == true;
    wait_for("the list", is_sent);
    app.settled_at_end = false;
    app.restart();
    let paused = || app.client().get("/ready").json()["views"]["mails"]["state"] == "paused";
    wait_for("the view to be paused again", paused);
    wait_for("the list", || app.client().get("/v1/alerts").json()["alerts"][0]["sent"] == true);
    assert_eq!(app.client().get("/v1/alerts").json()["to"], "ops");
    app.sql("ALTER TABLE gone RENAME TO mails");
    wait_for_alert(&receiver, "view-paused mails", "over");
    let all = arrived(&receiver);
    assert_eq!(all.len(), 2, "{all:?}");
    let ids: Vec<String> = receiver
        .requests()
        .iter()
        .filter(|request| request.path == "/ops")
        .map(|request| request.headers["webhook-id"].clone())
        .collect();
    assert!(ids[0].ends_with("-raised") && ids[1].ends_with("-over"), "{ids:?}");
    wait_for("the list", || app.client().get("/v1/alerts").json()["alerts"] == serde_json::json!([]));
}

#[test]
fn one_alert_is_sent_about_new_dead_letters_until_they_are_handled() {
    on_each_store(new_dead_letters);
}

fn new_dead_letters(store_kind: StoreKind) {
    let receiver = Receiver::start();
    receiver.behave("/hook", Behaviour::Answer(500));
    let app = start(&receiver, store_kind);
    for number in 0..3 {
        order(&app.client(), &format!("u{number}@x.example"), "");
    }
    wait_for_alert(&receiver, "dead-letters", "raised");
    let open = || app.client().get("/v1/dead-letters").json()["deadLetters"].as_array().unwrap().clone();
    wait_for("all dead letters", || open().len() == 3);
    for letter in open() {
        let id = letter["id"].as_str().unwrap();
        let path = format!("/v1/dead-letters/{id}/drop");
        assert_eq!(app.client().post(&path, "{}").status, 200);
    }
    wait_for_alert(&receiver, "dead-letters", "over");
    assert_eq!(arrived(&receiver).len(), 2);
}

#[test]
fn an_alert_waits_for_a_destination_that_is_down() {
    let receiver = Receiver::start();
    receiver.behave("/ops", Behaviour::Answer(503));
    receiver.behave("/hook", Behaviour::Answer(500));
    let mut app = start(&receiver, StoreKind::Sqlite);
    order(&app.client(), "a@x.example", "");
    wait_for_alert(&receiver, "dead-letters", "raised");
    let listed = || app.client().get("/v1/alerts").json();
    wait_for("the reason", || listed()["lastError"].as_str().is_some_and(|error| error.contains("503")));
    assert_eq!(listed()["alerts"][0]["sent"], false);
    let tested = app.command(&["alert", "test"]);
    assert!(String::from_utf8_lossy(&tested.stderr).contains("503"), "{tested:?}");
    app.kill();
    receiver.behave("/ops", Behaviour::Answer(200));
    let before = arrived(&receiver).len();
    app.restart();
    wait_for("the alert", || arrived(&receiver).len() > before);
    let list = || String::from_utf8(app.command(&["alert", "list"]).stdout).unwrap();
    wait_for("the list", || list().contains("ops has been told)"));
    let ids: std::collections::BTreeSet<String> = receiver
        .requests()
        .into_iter()
        .filter(|request| request.path == "/ops" && request.headers["webhook-id"].ends_with("-raised"))
        .map(|request| request.headers["webhook-id"].clone())
        .collect();
    assert_eq!(ids.len(), 1, "each attempt has the same id: {ids:?}");
}

#[test]
fn an_alert_about_the_database_does_not_need_the_database() {
    for mut server in [Postgres::start(), Mariadb::start()] {
        let receiver = Receiver::start();
        let environment = vec![("MILLRACE_STORE".to_owned(), server.new_database())];
        let app = TestApp::with(Start {
            config: Some(section(&receiver)),
            environment,
            store_kind: Some(StoreKind::Sqlite),
            ..Start::default()
        });
        order(&app.client(), "a@x.example", "");
        app.settle();
        server.kill();
        let message = wait_for_alert(&receiver, "store-away", "raised");
        assert!(message.starts_with("The database cannot be used: "), "{message}");
        server.start_again();
        wait_for_alert(&receiver, "store-away", "over");
        app.settle();
        assert_eq!(arrived(&receiver).len(), 2);
    }
}

#[test]
fn an_alert_is_sent_before_a_full_disk_refuses_events() {
    if !can_mount("alerts::an_alert_is_sent_before_a_full_disk_refuses_events") {
        return;
    }
    let receiver = Receiver::start();
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let disk = SmallDisk::mounted(&folder.path().join("data"), 64 << 20);
    let start =
        Start { config: Some(section(&receiver)), store_kind: Some(StoreKind::Sqlite), ..Start::default() };
    let app = TestApp::with_folder(start, folder);
    let filler = disk.filler();
    filler.take(48);
    wait_for_alert(&receiver, "disk-nearly-full", "raised");
    order(&app.client(), "a@x.example", "");
    app.settle();
    filler.empty();
    wait_for_alert(&receiver, "disk-nearly-full", "over");
    drop(app);
}

#[test]
fn an_alert_is_sent_about_a_view_that_is_far_behind() {
    let receiver = Receiver::start();
    let config = section(&receiver) + "lag = \"1s\"\n";
    let environment = vec![("MILLRACE_FAILPOINTS".to_owned(), "views.folded=sleep:16000".to_owned())];
    let app = TestApp::with(Start {
        config: Some(config),
        environment,
        store_kind: Some(StoreKind::Sqlite),
        ..Start::default()
    });
    order(&app.client(), "a@x.example", "");
    let message = wait_for_alert(&receiver, "view-behind mails", "raised");
    assert!(message.contains("behind, more than 1 s."), "{message}");
    wait_for_alert(&receiver, "view-behind mails", "over");
}

#[test]
fn a_destination_of_alerts_that_cannot_work_is_refused_at_the_start() {
    let unknown = config_errors("[alert]\nto = \"opps\"");
    assert!(unknown.contains("`[alert]` sends to destination `opps`, which is not declared"), "{unknown}");
    let mail = "[destination.mail]\nkind = \"email\"\nhost = \"mail.example\"\nfrom = \"a@b.example\"\n";
    let without = config_errors(&format!("{mail}[alert]\nto = \"mail\""));
    assert!(without.contains("it needs a `recipient`"), "{without}");
    let wrong = config_errors(&format!("{mail}[alert]\nto = \"mail\"\nrecipient = \"nobody\""));
    assert!(wrong.contains("`[alert]` cannot be sent: destination `mail`"), "{wrong}");
    let lag = config_errors("[alert]\nto = \"log\"\nlag = \"0s\"");
    assert!(lag.contains("`lag = \"0s\"`"), "{lag}");
}

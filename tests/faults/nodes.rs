//! Several processes with one database. Two processes with the same log race for each position, and one of them wins.
//! Nodes with separate logs add up, and an event that was sent to two nodes counts once.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::checker::{Checker, balances};
use crate::harness::event_stream::EventStream;
use crate::harness::servers::Kind;
use crate::harness::{Start, TestApp, wait_for};
use crate::history::{Request, Sale, Source};
use crate::load::{Load, SALES_MAX, amount_text, sums};
use crate::rig::{Rig, copy_folder, sale, shared, start_with_store};

on_each_server!(
    two_processes_with_one_log_count_nothing_twice,
    nodes_with_separate_logs_add_up_and_share_seen_ids,
    a_repeat_is_applied_only_when_the_other_node_has_applied_it,
    subscribers_see_what_another_node_commits,
    subscribers_wait_for_a_database_that_is_away,
);

/// A part of the message that a process logs if another one has already applied a plan.
const CLAIM_LOST: &str = "was expected";

fn two_processes_with_one_log_count_nothing_twice(kind: Kind) {
    let server = shared(kind);
    // Slow, so that both processes have a plan before one of them claims.
    let slow = "store.begin=sleep:200";
    let mut rig = Rig::with(server, slow);
    rig.load(|| rig.wait_for_progress("sales"));
    rig.app.settle();
    rig.proxy.refuse();
    rig.proxy.cut();
    rig.load(|| rig.wait_for_events(300));
    rig.app.kill();
    rig.proxy.pass();
    let mut start = start_with_store(&rig.url);
    start.environment.push(("MILLRACE_FAILPOINTS".to_owned(), slow.to_owned()));
    let copy = copy_folder(&rig.app.folder);
    let racer = std::thread::scope(|scope| {
        let racer = scope.spawn(|| TestApp::with_folder(start, copy));
        rig.app.restart();
        racer.join().unwrap()
    });
    [&rig.app, &racer].into_iter().for_each(TestApp::settle);
    let lost = [&rig.app, &racer].into_iter().filter(|app| app.log_text().contains(CLAIM_LOST)).count();
    assert!(lost > 0, "no process lost a claim to the other");
    rig.demand_exact(server);
}

/// Sends one event with this number. The load continues from it, so that all ids differ from those of the other
/// node.
fn send_with_number(checker: &Checker, app: &TestApp, number: u64) {
    let sales = vec![Sale { number: number * SALES_MAX, user: "user-0".to_owned(), units: 10_000, pad: 0 }];
    let source = Source::Object { id: format!("object-{number}") };
    let request = Request { number, source, sales, connection: None };
    assert_eq!(checker.send(&app.client(), &request), Some(200));
}

fn nodes_with_separate_logs_add_up_and_share_seen_ids(kind: Kind) {
    let server = shared(kind);
    let rig = Rig::new(server);
    let arguments = vec!["--accept-new-log".to_owned()];
    let other = TestApp::with(Start { arguments, ..start_with_store(&rig.url) });
    let other_checker = Checker::open(&other.folder.path().join("history"));
    send_with_number(&other_checker, &other, 1_000_000);
    let load = Load::new(&other_checker, other.client());
    rig.load(|| {
        load.run(rig.seed.0 + 1, || {
            rig.wait_for_events(300);
            wait_for("events at the other node", || other.log_end() > 300);
        });
    });
    let nodes = [&rig.app, &other];
    let both = |body: &str| {
        std::thread::scope(|scope| {
            nodes.into_iter().for_each(|app| drop(scope.spawn(move || sale(app, body))));
        });
    };
    for number in 1..=20 {
        both(&format!(
            r#"{{"id":"both-{number}","userId":"both","name":"add_revenue","value":1,"number":-{number}}}"#
        ));
    }
    nodes.into_iter().for_each(TestApp::settle);

    let histories = [&rig.checker, &other_checker].map(|checker| checker.history.requests());
    let sent = || histories.iter().flatten().flat_map(|known| &known.request.sales);
    assert!(histories.iter().flatten().all(|known| known.acknowledged.is_some()));
    let mut expected: BTreeMap<String, String> =
        sums(sent()).into_iter().map(|(user, units)| (user, amount_text(units))).collect();
    expected.insert("both".to_owned(), "20".to_owned());
    assert_eq!(balances(&rig.app.client()), expected);
    assert_eq!(balances(&other.client()), expected);
    let rows = sent().count() + 20;
    let found = server.sql(&rig.url, "SELECT count(*), count(DISTINCT number) FROM sales");
    assert_eq!(found, format!("{rows}\t{rows}"));
    let counted = server.sql(&rig.url, "SELECT sum(n) FROM sale_counts_counts WHERE field = '' AND day = 0");
    assert_eq!(counted, rows.to_string());

    // A different event under an id that the other node has seen must not disappear: it becomes a dead letter.
    for (app, value) in nodes.into_iter().zip([1, 2]) {
        sale(
            app,
            &format!(
                r#"{{"id":"unlike","userId":"unlike","name":"add_revenue","value":{value},"number":-99}}"#
            ),
        );
        app.settle();
    }
    assert_eq!(rig.app.balance("unlike").as_deref(), Some("1"));
    let dead_letters = other.client().get("/v1/dead-letters").json();
    assert_eq!(dead_letters["deadLetters"].as_array().unwrap().len(), 1, "{dead_letters}");
}

/// Dedup of the second node knows the event as soon as dedup of the first one has seen it, which is before its views.
fn a_repeat_is_applied_only_when_the_other_node_has_applied_it(kind: Kind) {
    let url = shared(kind).new_database();
    let mut slow = start_with_store(&url);
    slow.environment.push(("MILLRACE_FAILPOINTS".to_owned(), "views.folded=sleep:6000".to_owned()));
    let first = TestApp::with(slow);
    let arguments = vec!["--accept-new-log".to_owned()];
    let second = TestApp::with(Start { arguments, ..start_with_store(&url) });
    let body = r#"{"id":"twice","userId":"u","name":"add_revenue","value":1,"number":1}"#;
    let post =
        |app: &TestApp, query: &str| app.client().post(&format!("/v1/streams/revenue/events{query}"), body);
    assert_eq!(post(&first, "").status, 200);
    wait_for("dedup of the first node", || first.view("dedup")["lag"] == 0);
    let unknown = post(&second, "?wait=applied");
    assert_eq!((unknown.status, &unknown.json()["applied"]), (202, &false.into()), "{}", unknown.text());
    first.settle();
    let known = post(&second, "?wait=applied");
    assert_eq!((known.status, &known.json()["applied"]), (200, &true.into()), "{}", known.text());
}

/// Values, and rows of the log of the other node.
fn subscribers_see_what_another_node_commits(kind: Kind) {
    let url = shared(kind).new_database();
    let first = TestApp::with(start_with_store(&url));
    let arguments = vec!["--accept-new-log".to_owned()];
    let second = TestApp::with(Start { arguments, ..start_with_store(&url) });
    let mut balance = EventStream::open(&first.client(), "/v1/views/revenue/live?key=u");
    let mut rows = EventStream::open(&first.client(), "/v1/views/sales/live");
    assert_eq!(balance.change()["balance"], Value::Null);
    let place = rows.wait_for_place();
    let send = |app: &TestApp, number: u32| {
        sale(app, &format!(r#"{{"userId":"u","name":"add_revenue","value":{number},"number":{number}}}"#));
    };
    send(&second, 1);
    assert_eq!(balance.change()["balance"], 1);
    let row = rows.change();
    assert_eq!((&row["row"]["number"], row["log"].is_string()), (&json!(1), true), "{row}");
    send(&first, 2);
    assert_eq!(balance.change()["balance"], 3);
    assert_eq!(rows.change()["row"]["number"], 2);
    // A reader that comes again gets the rows of both nodes, at whichever it asks.
    for app in [&first, &second] {
        let mut again = EventStream::open(&app.client(), &format!("/v1/views/sales/live?after={place}"));
        let mut numbers = [again.change(), again.change()].map(|row| row["row"]["number"].as_u64());
        numbers.sort_unstable();
        assert_eq!(numbers, [Some(1), Some(2)]);
    }
}

/// A reader that subscribes meanwhile, and one that is connected, get the value when the database is there again.
fn subscribers_wait_for_a_database_that_is_away(kind: Kind) {
    let rig = Rig::new(shared(kind));
    sale(&rig.app, r#"{"userId":"u","name":"add_revenue","value":1,"number":1}"#);
    rig.app.settle();
    let path = "/v1/views/revenue/live?key=u";
    let mut connected = EventStream::open(&rig.app.client(), path);
    assert_eq!(connected.change()["balance"], 1);
    rig.proxy.refuse();
    rig.proxy.cut();
    sale(&rig.app, r#"{"userId":"u","name":"add_revenue","value":2,"number":2}"#);
    let mut late = EventStream::open(&rig.app.client(), "/v1/views/revenue/live?key=v");
    assert!(late.read(Duration::from_secs(2)).is_err());
    rig.proxy.pass();
    assert_eq!(connected.change()["balance"], 3);
    assert_eq!(late.change()["balance"], Value::Null);
}

//! Several processes at one database. Two that have the same log race for each of its positions, and one wins;
//! nodes with logs of their own add up, and an event that was sent to two of them counts once.

use std::collections::BTreeMap;

use crate::checker::{Checker, balances};
use crate::harness::servers::Kind;
use crate::harness::{Start, TestApp, wait_for};
use crate::history::{Request, Sale, Source};
use crate::load::{Load, SALES_MAX, amount_text, sums};
use crate::rig::{Rig, at, copy_of, sale, shared};

on_each_server!(
    of_two_processes_with_one_log_one_wins_and_nothing_counts_twice,
    nodes_with_logs_of_their_own_add_up_and_share_what_they_have_seen,
);

const LOST: &str = "in the store, not at";

fn of_two_processes_with_one_log_one_wins_and_nothing_counts_twice(kind: Kind) {
    let server = shared(kind);
    // Both have made their plan before one of them claims.
    let slow = "store.begin=sleep:200";
    let mut rig = Rig::with(server, slow);
    rig.load(|| rig.goes_on("sales"));
    rig.app.settle();
    rig.proxy.refuse();
    rig.proxy.cut();
    rig.load(|| rig.more(300));
    rig.app.kill();
    rig.proxy.pass();
    let mut start = at(&rig.url);
    start.environment.push(("MILLRACE_FAILPOINTS".to_owned(), slow.to_owned()));
    let copy = copy_of(&rig.app.folder);
    let racer = std::thread::scope(|scope| {
        let racer = scope.spawn(|| TestApp::with_folder(start, copy));
        rig.app.restart();
        racer.join().unwrap()
    });
    [&rig.app, &racer].into_iter().for_each(TestApp::settle);
    let lost = [&rig.app, &racer].into_iter().filter(|app| app.log_text().contains(LOST)).count();
    assert!(lost > 0, "nobody found that the other was faster");
    rig.demand_exact(server);
}

/// Names what it sends unlike any other node.
fn numbered_from(checker: &Checker, app: &TestApp, number: u64) {
    let sales = vec![Sale { number: number * SALES_MAX, user: "user-0".to_owned(), units: 10_000, pad: 0 }];
    let request = Request { number, source: Source::Object { id: format!("object-{number}") }, sales };
    assert_eq!(checker.send(&app.client(), &request), Some(200));
}

fn nodes_with_logs_of_their_own_add_up_and_share_what_they_have_seen(kind: Kind) {
    let server = shared(kind);
    let rig = Rig::before(server);
    let arguments = vec!["--accept-new-log".to_owned()];
    let other = TestApp::with(Start { arguments, ..at(&rig.url) });
    let of_other = Checker::open(&other.folder.path().join("history"));
    numbered_from(&of_other, &other, 1_000_000);
    let load = Load::new(&of_other, other.client());
    rig.load(|| {
        load.run(rig.seed.0 + 1, || {
            rig.more(300);
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

    let histories = [&rig.checker, &of_other].map(|checker| checker.history.requests());
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

    // Another event under an id that the other node has seen is nobody's to swallow.
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
    let letters = other.client().get("/v1/dead-letters").json();
    assert_eq!(letters["deadLetters"].as_array().unwrap().len(), 1, "{letters}");
}

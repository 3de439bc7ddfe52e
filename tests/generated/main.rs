//! Generated requests against the real binary: valid, mutated and arbitrary ones to every source and every
//! route of the API, over keep-alive connections.
//!
//! `MILLRACE_GENERATED_REQUESTS` sets their number. `MILLRACE_GENERATED_SEED` repeats an earlier run.

#![allow(clippy::unwrap_used)]

#[path = "../harness/mod.rs"]
mod harness;

mod draw;
mod judge;
mod sales;
mod sender;
mod wire;

use std::collections::BTreeMap;

use harness::{Client, TestApp};
use serde::Deserialize;
use serde_json::value::RawValue;

use judge::Judge;
use sales::units_of;
use sender::{Sender, Tally};

const REQUESTS: u64 = 6_000;
const SENDERS: u64 = 8;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

#[test]
fn no_request_causes_an_internal_error() {
    let requests = setting("MILLRACE_GENERATED_REQUESTS").unwrap_or(REQUESTS);
    let seed = setting("MILLRACE_GENERATED_SEED")
        .unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64);
    println!("MILLRACE_GENERATED_SEED={seed}");
    let app = TestApp::start();
    let (judge, key) = (Judge::new(), app.key());
    let finished: Vec<Sender<'_>> = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|number| {
                let sender = Sender::new(number, seed, &app.address, &key, &judge);
                scope.spawn(move || sender.run(requests / SENDERS))
            })
            .collect();
        senders.into_iter().map(|sender| sender.join().expect("no sender panics")).collect()
    });
    let mut balances = BTreeMap::new();
    let mut tally = Tally::default();
    for sender in finished {
        for (user, units) in sender.sales.balances {
            *balances.entry(user).or_default() += units;
        }
        tally.add(&sender.tally);
    }
    println!("{tally}");
    tally.expect_everything();
    assert!(!app.log_text().contains("panicked"), "{}", app.log_text());
    app.settle();
    assert_eq!(shown(&app.client()), balances, "seed {seed}");
    for view in app.client().get("/v1/views").json()["views"].as_array().unwrap() {
        let name = view["name"].as_str().unwrap();
        let report = app.client().post(&format!("/v1/views/{name}/reconcile"), "");
        // After an erasure, a view may refuse the comparison with 409, because earlier data is gone.
        assert!(report.status == 409 || report.json()["differenceCount"] == 0, "{name}: {}", report.text());
    }
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    balances: Vec<Row<'a>>,
}

#[derive(Deserialize)]
struct Row<'a> {
    key: String,
    #[serde(borrow)]
    balance: &'a RawValue,
}

/// Returns the balances of the users whose sales are checked.
fn shown(client: &Client) -> BTreeMap<String, i128> {
    let answer = client.get("/v1/views/revenue/balances?after=counted-&limit=1000").text();
    let page: Page<'_> = serde_json::from_str(&answer).unwrap();
    let counted = page.balances.iter().filter(|row| row.key.starts_with("counted-"));
    counted.map(|row| (row.key.clone(), units_of(row.balance.get()))).collect()
}

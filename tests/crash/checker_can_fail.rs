//! The checker is checked: with a step taken out that the promises stand on, it has to find loss or
//! double counting, and soon. A sync or a folder's sync taken out shows only on a disk that forgets what
//! was not synced: `crates/journal/tests/checker_can_fail.rs`.

use crate::harness::seed::Seed;
use crate::kills::run;

const TRIES: u64 = 50;
const KILLS: u64 = 3;

/// No claim at all; the claim and its rows no longer in one transaction; repeats not left out.
pub const MUTATIONS: [&str; 3] = ["store.claim", "store.transaction", "views.leave_out"];

fn found(mutation: &str) {
    let seed = Seed::new();
    let mut errors =
        (0..TRIES).filter_map(|attempt| run(seed.0 + attempt, KILLS, &format!("{mutation}=skip")).err());
    let error = errors.next().unwrap_or_else(|| panic!("{TRIES} runs without `{mutation}` passed"));
    assert!(error.starts_with("balances differ"), "{error}");
}

#[test]
fn without_the_claim_it_finds_what_was_counted_twice() {
    found(MUTATIONS[0]);
}

#[test]
fn without_the_transaction_round_claim_and_rows_it_finds_the_difference() {
    found(MUTATIONS[1]);
}

#[test]
fn without_the_gate_it_finds_what_was_sent_twice() {
    found(MUTATIONS[2]);
}

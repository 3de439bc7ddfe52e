//! Tests of the checker. If a step is skipped on which the guarantees depend, the checker must find loss or double
//! counting within a few runs. A skipped sync shows only on a simulated disk that forgets unsynced writes, in
//! `crates/journal/tests/checker_can_fail.rs`.

use crate::harness::seed::Seed;
use crate::kills::run;

const TRIES: u64 = 50;
const KILLS: u64 = 3;

/// The claim; the transaction around claim and rows; the skipping of repeats.
pub const MUTATIONS: [&str; 3] = ["store.claim", "store.transaction", "views.leave_out"];

fn found(mutation: &str) {
    let seed = Seed::new();
    let mut errors = (0..TRIES)
        .filter_map(|attempt| run(seed.0 + attempt, KILLS, &format!("{mutation}=skip"), None).err());
    let error = errors.next().unwrap_or_else(|| panic!("{TRIES} runs without `{mutation}` passed"));
    assert!(error.starts_with("balances differ"), "{error}");
}

#[test]
fn without_the_claim_the_checker_finds_double_counting() {
    found(MUTATIONS[0]);
}

#[test]
fn without_one_transaction_for_claim_and_rows_the_checker_finds_a_difference() {
    found(MUTATIONS[1]);
}

#[test]
fn without_dedup_the_checker_finds_double_counting() {
    found(MUTATIONS[2]);
}

//! Tests of the checker. If a step is skipped on which the guarantees depend, the checker must find loss or double
//! counting within a few runs. A skipped sync shows only on a simulated disk that forgets unsynced writes, in
//! `crates/journal/tests/checker_can_fail.rs`.

use crate::harness::seed::Seed;
use crate::history::Transport;
use crate::kills::run;

const TRIES: u64 = 50;
const KILLS: u64 = 3;

/// The claim; the transaction around claim and rows; the skipping of repeats; the wait of an append until it is durable.
pub const MUTATIONS: [&str; 4] =
    ["store.claim", "store.transaction", "views.leave_out", "journal.await_durable"];

/// Returns the first error that the checker finds. All requests have the transport `only`, if it is given.
fn found(failpoints: &str, only: Option<Transport>) -> String {
    let seed = Seed::new();
    let mut errors = (0..TRIES).filter_map(|attempt| run(seed.0 + attempt, KILLS, failpoints, only).err());
    errors.next().unwrap_or_else(|| panic!("{TRIES} runs with `{failpoints}` over {only:?} passed"))
}

fn finds_a_difference(mutation: &str, only: Option<Transport>) {
    let error = found(&format!("{mutation}=skip"), only);
    assert!(error.starts_with("balances differ"), "{only:?}: {error}");
}

#[test]
fn without_the_claim_the_checker_finds_double_counting() {
    finds_a_difference(MUTATIONS[0], None);
}

#[test]
fn without_one_transaction_for_claim_and_rows_the_checker_finds_a_difference() {
    finds_a_difference(MUTATIONS[1], None);
}

#[test]
fn without_dedup_the_checker_finds_double_counting() {
    for transport in [Transport::Http, Transport::SocketIo, Transport::WebSocket] {
        finds_a_difference(MUTATIONS[2], Some(transport));
    }
}

/// Writes are slow here, so that events are acknowledged well before they are written.
#[test]
fn without_the_wait_for_durability_the_checker_finds_loss_over_each_transport() {
    let failpoints = format!("{}=skip;journal.write=sleep:5", MUTATIONS[3]);
    for transport in [Transport::Http, Transport::SocketIo, Transport::WebSocket] {
        let error = found(&failpoints, Some(transport));
        assert!(error.ends_with("was acknowledged but is not in the log"), "{transport:?}: {error}");
    }
}

//! Random runs on a disk that loses unsynced data. After any fault and any power cut, an open log is an exact prefix
//! that contains everything acknowledged, except what was trimmed. Erased payloads stay erased.
#![allow(clippy::unwrap_used)]

mod support;

use support::crash_run::{Break, Outcome, run};

fn seeds() -> u64 {
    std::env::var("JOURNAL_CRASHES").map_or(600, |seeds| seeds.parse().unwrap())
}

/// Returns the only seed to run, if `JOURNAL_CRASH_SEED` is set.
fn first_seed() -> Option<u64> {
    std::env::var("JOURNAL_CRASH_SEED").ok().map(|seed| seed.parse().unwrap())
}

#[test]
fn every_acknowledged_append_survives_every_crash() {
    let range = first_seed().map_or(0..seeds(), |seed| seed..seed + 1);
    let single = range.end - range.start == 1;
    let mut sum = Outcome::default();
    for seed in range {
        let outcome =
            run(seed, Break::Nothing).unwrap_or_else(|error| panic!("JOURNAL_CRASH_SEED={seed}: {error}"));
        sum.durable += outcome.durable;
        sum.failed_opens += outcome.failed_opens;
        sum.poisoned += outcome.poisoned;
        sum.disk_full += outcome.disk_full;
        sum.torn += outcome.torn;
        sum.sealed += outcome.sealed;
        sum.erased += outcome.erased;
        sum.trimmed += outcome.trimmed;
        sum.interrupted += outcome.interrupted;
    }
    println!("{sum:?}");
    // Runs in which no fault occurred would prove nothing.
    if !single {
        assert!(sum.durable > 0 && sum.failed_opens > 0 && sum.torn > 0, "{sum:?}");
        assert!(sum.poisoned > 0 && sum.disk_full > 0, "{sum:?}");
        assert!(sum.sealed > 0 && sum.erased > 0 && sum.trimmed > 0 && sum.interrupted > 0, "{sum:?}");
    }
}

#[test]
fn the_same_seed_repeats_a_run_byte_for_byte() {
    for seed in 0..20 {
        assert_eq!(run(seed, Break::Nothing), run(seed, Break::Nothing));
    }
}

//! kill -9 at random moments, over and over, in one data folder; then the checker looks at all of it.

use std::time::Duration;

use journal::simulation::Rng;

use crate::checker::{Checker, Proof};
use crate::harness::seed::{Seed, number};
use crate::harness::{Start, TestApp};
use crate::load::Load;

const CYCLES: u64 = 15;
/// So many kills to one data folder; a long run has many folders, each with the next seed.
const CYCLES_A_FOLDER_MAX: u64 = 50;

pub fn start(failpoints: &str) -> Start {
    let environment = vec![("MILLRACE_FAILPOINTS".to_owned(), failpoints.to_owned())];
    Start { environment, ..Start::default() }
}

/// Kills so many times, `failpoints` set, and looks at the end. A checker is made anew for each life,
/// from nothing but its history.
pub fn run(seed: u64, cycles: u64, failpoints: &str) -> Result<Proof, String> {
    let mut chance = Rng::new(seed);
    let mut app = TestApp::with(start(failpoints));
    let history = app.folder.path().join("history");
    for _ in 0..cycles {
        let checker = Checker::open(&history);
        if chance.times_in_100(60) {
            checker.resend(&app.client());
        }
        let life = Duration::from_micros(2_000 + chance.below(120_000));
        let load = Load::new(&checker, app.client());
        // The moment is the point: there is no condition to wait for.
        load.run(chance.draw(), || {
            std::thread::sleep(life);
            app.kill();
        });
        app.restart();
    }
    // A checker that has found something leaves nothing to be settled.
    Checker::open(&history).demand_equality(&app).inspect_err(|_| app.kill())
}

#[test]
fn what_was_acknowledged_is_applied_once_whenever_it_is_killed() {
    let mut seed = Seed::new();
    let cycles = number("MILLRACE_CRASH_CYCLES").unwrap_or(CYCLES);
    let (mut left, mut sum) = (cycles, Proof::default());
    while left > 0 {
        let now = left.min(CYCLES_A_FOLDER_MAX);
        let proof = run(seed.0, now, "").unwrap_or_else(|error| panic!("{error}"));
        println!("seed {}, {now} kills: {proof:?}", seed.0);
        sum += proof;
        left -= now;
        seed.0 += 1;
    }
    println!("{cycles} kills: {sum:?}");
    // A run in which nothing was cut off would prove nothing.
    assert!(sum.acknowledged > 50 && sum.repeats_in_log > 0, "{sum:?}");
}

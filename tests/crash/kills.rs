//! Repeated kill -9 at random moments with one data folder. At the end the checker checks everything.

use std::time::Duration;

use journal::simulation::Rng;

use crate::checker::{Checker, Proof};
use crate::harness::seed::{Seed, number};
use crate::harness::{Start, TestApp};
use crate::history::Transport;
use crate::load::Load;
use crate::sockets::SOCKETIO_SOURCE;

const CYCLES: u64 = 15;
/// The maximum of kills for one data folder. A long run uses several folders, each with the next seed.
const CYCLES_A_FOLDER_MAX: u64 = 50;

pub fn start(failpoints: &str) -> Start {
    let environment = vec![("MILLRACE_FAILPOINTS".to_owned(), failpoints.to_owned())];
    Start { config: Some(SOCKETIO_SOURCE.to_owned()), environment, ..Start::default() }
}

/// Kills a server `cycles` times, with `failpoints` set, and checks at the end. Each life of the server has a new
/// checker, which reads its history from the file. All requests have the transport `only`, if it is given.
pub fn run(seed: u64, cycles: u64, failpoints: &str, only: Option<Transport>) -> Result<Proof, String> {
    let mut rng = Rng::new(seed);
    let mut app = TestApp::with(start(failpoints));
    let history = app.folder.path().join("history");
    for _ in 0..cycles {
        let checker = Checker::open(&history);
        if rng.times_in_100(60) {
            checker.resend(&app.client());
        }
        let life = Duration::from_micros(2_000 + rng.below(120_000));
        let mut load = Load::new(&checker, app.client());
        load.only = only;
        // The kill must come at a random moment, and not at a condition.
        load.run(rng.draw(), || {
            std::thread::sleep(life);
            app.kill();
        });
        app.restart();
    }
    // After a failed check, kill the server, so that its drop does not wait for the views.
    Checker::open(&history).demand_equality(&app).inspect_err(|_| app.kill())
}

#[test]
fn every_acknowledged_event_is_applied_once_whenever_the_server_is_killed() {
    let mut seed = Seed::new();
    let cycles = number("MILLRACE_CRASH_CYCLES").unwrap_or(CYCLES);
    let (mut left, mut sum) = (cycles, Proof::default());
    while left > 0 {
        let now = left.min(CYCLES_A_FOLDER_MAX);
        let proof = run(seed.0, now, "", None).unwrap_or_else(|error| panic!("{error}"));
        println!("seed {}, {now} kills: {proof:?}", seed.0);
        sum += proof;
        left -= now;
        seed.0 += 1;
    }
    println!("{cycles} kills: {sum:?}");
    // A run in which no request was interrupted would prove nothing.
    assert!(sum.acknowledged > 50 && sum.repeats_in_log > 0, "{sum:?}");
    assert!(sum.socketio > 20 && sum.websocket > 20, "{sum:?}");
}

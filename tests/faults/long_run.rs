//! A database that fails repeatedly under load: it is killed, made unreachable, or cut off at COMMITs. At the end the
//! checker checks everything. `MILLRACE_FAULT_CYCLES=500` is the long form.

use journal::simulation::Rng;

use crate::checker::Proof;
use crate::harness::cutting::{Moment, Which};
use crate::harness::seed::number;
use crate::harness::servers::{Kind, Server, Setup};
use crate::harness::wait_for;
use crate::rig::{Rig, start};

on_each_server!(every_acknowledged_event_counts_once_however_often_the_database_breaks);

const CYCLES: u64 = 5;
/// The maximum of failures for one database. A long run uses several databases.
const CYCLES_A_DATABASE_MAX: u64 = 50;

/// The number of failures of each kind.
#[derive(Debug, Default)]
struct Broken {
    killed: u64,
    cut: u64,
    commits_cut: u64,
}

fn break_database(rig: &Rig, server: &mut Server, rng: &mut Rng, broken: &mut Broken) {
    rig.wait_for_progress("revenue");
    match rng.below(3) {
        0 => {
            server.kill();
            rig.wait_for_events(rng.below(50));
            server.start_again();
            broken.killed += 1;
        }
        1 => {
            rig.proxy.refuse();
            rig.proxy.cut();
            rig.wait_for_events(rng.below(50));
            rig.proxy.pass();
            broken.cut += 1;
        }
        _ => {
            let moment = if rng.times_in_100(70) { Moment::After } else { Moment::Before };
            let before = rig.proxy.commits_cut();
            rig.proxy.cut_commits(moment, Which::Every(1 + rng.below(4) as u32));
            wait_for("a commit to be cut", || rig.proxy.commits_cut() > before);
            rig.proxy.cut_commits(moment, Which::None);
            broken.commits_cut += rig.proxy.commits_cut() - before;
        }
    }
}

fn run(kind: Kind, seed: u64, cycles: u64, broken: &mut Broken) -> Proof {
    let mut rng = Rng::new(seed);
    let mut server = start(kind, Setup::default());
    let rig = Rig::new(&server);
    rig.load(|| {
        for _ in 0..cycles {
            break_database(&rig, &mut server, &mut rng, broken);
        }
        rig.wait_for_progress("revenue");
    });
    rig.demand_exact(&server)
}

fn every_acknowledged_event_counts_once_however_often_the_database_breaks(kind: Kind) {
    let cycles = number("MILLRACE_FAULT_CYCLES").unwrap_or(CYCLES);
    let mut seed = crate::harness::seed::Seed::new();
    let (mut left, mut sum, mut broken) = (cycles, Proof::default(), Broken::default());
    while left > 0 {
        let now = left.min(CYCLES_A_DATABASE_MAX);
        let proof = run(kind, seed.0, now, &mut broken);
        println!("{kind:?}, seed {}, {now} times: {proof:?}", seed.0);
        sum += proof;
        left -= now;
        seed.0 += 1;
    }
    println!("{kind:?}, {cycles} times: {broken:?}, {sum:?}");
}

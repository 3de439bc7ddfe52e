//! Connections that are lost at a COMMIT: carried out or not, nobody can tell. The plan is tried again, and
//! the stamp that the claim leaves says whether it is in the database already.

use crate::harness::cutting::{Moment, Which};
use crate::harness::servers::Kind;
use crate::harness::wait_for;
use crate::rig::{Rig, shared};

on_each_server!(
    a_commit_whose_answer_is_lost_counts_once,
    a_commit_that_never_arrives_is_made_again,
    without_the_stamp_lost_answers_are_found_to_count_twice,
);

const CUTS: u64 = 12;

/// Cuts under load, and then lets everything pass.
fn cut(rig: &Rig, moment: Moment, which: Which) {
    rig.load(|| {
        rig.more(50);
        rig.proxy.cut_commits(moment, which);
        wait_for("connections to be cut", || rig.proxy.commits_cut() >= CUTS);
        rig.proxy.cut_commits(moment, Which::None);
    });
}

fn a_commit_whose_answer_is_lost_counts_once(kind: Kind) {
    let server = shared(kind);
    let rig = Rig::before(server);
    cut(&rig, Moment::After, Which::Every(3));
    rig.demand_exact(server);
}

fn a_commit_that_never_arrives_is_made_again(kind: Kind) {
    let server = shared(kind);
    let rig = Rig::before(server);
    cut(&rig, Moment::Before, Which::Drawn { seed: rig.seed.0 | 1, one_in: 3 });
    rig.demand_exact(server);
}

/// The check above can fail: without the stamp, what was carried out and tried again is there twice.
fn without_the_stamp_lost_answers_are_found_to_count_twice(kind: Kind) {
    let server = shared(kind);
    let mut rig = Rig::with(server, "store.stamp=skip");
    cut(&rig, Moment::After, Which::Every(2));
    let found = rig.exact(server).unwrap_err();
    let told = ["balances differ", "rows and events", "counts differ"];
    assert!(told.iter().any(|told| found.starts_with(told)), "{found}");
    rig.app.kill();
}

//! Connections that are lost at a COMMIT, so that its outcome is unknown. The plan is retried, and the stamp that the
//! claim writes shows if the plan is already in the database.

use crate::harness::cutting::{Moment, Which};
use crate::harness::servers::Kind;
use crate::harness::wait_for;
use crate::rig::{Rig, VIEW_NAMES, shared};

on_each_server!(
    a_commit_whose_answer_is_lost_counts_once,
    a_commit_that_never_arrives_is_retried,
    without_the_stamp_the_checker_finds_plans_applied_twice,
);

const CUTS: u64 = 12;

/// Cuts connections at COMMITs under load, and then stops cutting.
fn cut(rig: &Rig, moment: Moment, which: Which) {
    rig.load(|| {
        // A view that begins commits, too. Only the commits of plans are wanted.
        VIEW_NAMES.into_iter().for_each(|view| rig.wait_for_progress(view));
        rig.proxy.cut_commits(moment, which);
        wait_for("connections to be cut", || rig.proxy.commits_cut() >= CUTS);
        rig.proxy.cut_commits(moment, Which::None);
    });
}

fn a_commit_whose_answer_is_lost_counts_once(kind: Kind) {
    let server = shared(kind);
    let rig = Rig::new(server);
    cut(&rig, Moment::After, Which::Every(3));
    rig.demand_exact(server);
}

fn a_commit_that_never_arrives_is_retried(kind: Kind) {
    let server = shared(kind);
    let rig = Rig::new(server);
    cut(&rig, Moment::Before, Which::Drawn { seed: rig.seed.0 | 1, one_in: 3 });
    rig.demand_exact(server);
}

/// Shows that the check can fail: without the stamp, a plan that was committed and retried is applied twice.
fn without_the_stamp_the_checker_finds_plans_applied_twice(kind: Kind) {
    let server = shared(kind);
    let mut rig = Rig::with(server, "store.stamp=skip");
    cut(&rig, Moment::After, Which::Every(2));
    let found = rig.exact(server).unwrap_err();
    let expected = ["balances differ", "rows and events", "counts differ"];
    assert!(expected.iter().any(|start| found.starts_with(start)), "{found}");
    rig.app.kill();
}

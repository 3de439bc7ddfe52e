//! How the promises are proved: the real binary is killed at random and at every failpoint, its disk is
//! filled, its store locked, stopped, set back; and a checker outside of it, with a history of its own,
//! demands that what was acknowledged is what was applied.
//!
//! `MILLRACE_CRASH_SEED=N` repeats a schedule, `MILLRACE_CRASH_CYCLES=N` sets how often it is killed.

#![allow(clippy::unwrap_used)]

#[path = "../harness/mod.rs"]
mod harness;

mod history;

mod load;

mod checker;

mod kills;

mod failpoints;

mod checker_can_fail;

mod disk_full;

mod behind;

mod rows;

mod store;

mod runner;

mod retention;

mod forgetting;

mod ids;

mod statistics;

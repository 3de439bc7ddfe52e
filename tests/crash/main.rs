//! Proofs of the guarantees with the real binary. It is killed at random moments and at every failpoint, its disk is
//! filled, and its store is locked or restored from an older copy. A checker outside the process, with its own
//! history, demands that exactly the acknowledged events are applied.
//!
//! `MILLRACE_CRASH_SEED=N` repeats a schedule, `MILLRACE_CRASH_CYCLES=N` sets the number of kills.

#![allow(clippy::unwrap_used)]

#[path = "../harness/mod.rs"]
mod harness;

mod history;

mod load;

mod sockets;

mod socket_clients;

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

mod subscribers;

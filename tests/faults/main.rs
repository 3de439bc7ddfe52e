//! Failures of a database on a server: lost answers to COMMITs, deadlocks, kills, full disks, dropped tables, revoked
//! privileges and racing nodes. The real binary runs under load against real servers, with a proxy in between. After
//! each failure a checker outside the process demands that every acknowledged event is in every view once.
//!
//! `cargo test --features failpoints --test faults postgres::` runs the tests of one database.
//! `MILLRACE_FAULT_CYCLES=N` sets the number of failures of the long run, `MILLRACE_CRASH_SEED=N` repeats a load.

#![allow(clippy::unwrap_used)]

#[path = "../harness/mod.rs"]
mod harness;

// The load and the checker of the crash tests.
#[allow(dead_code)]
#[path = "../crash/checker.rs"]
mod checker;
#[path = "../crash/history.rs"]
mod history;
#[allow(dead_code)]
#[path = "../crash/load.rs"]
mod load;
#[path = "../crash/sockets.rs"]
mod sockets;

/// Makes a test of each function, in a module per database. The function takes the kind of server.
macro_rules! on_each_server {
    ($($case:ident),+ $(,)?) => {
        mod postgres {
            $(#[test] fn $case() { super::$case($crate::harness::servers::Kind::Postgres); })+
        }
        mod mariadb {
            $(#[test] fn $case() { super::$case($crate::harness::servers::Kind::Mariadb); })+
        }
    };
}

mod rig;

mod commits;
mod locks;
mod long_run;
mod newer;
mod nodes;
mod rights;
mod room;
mod servers;

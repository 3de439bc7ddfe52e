//! What a database on a server does to millrace, and what comes of it: answers to COMMITs that are lost,
//! deadlocks, kills, full disks, tables and rights that go away, nodes that race. The real binary runs against
//! real servers, with a proxy between them, under load; and each time a checker outside of it demands that
//! what was acknowledged is in every view once.
//!
//! `cargo test --features failpoints --test faults postgres::` runs one database's. `MILLRACE_FAULT_CYCLES=N`
//! sets how often the long run breaks its database, `MILLRACE_CRASH_SEED=N` repeats a load.

#![allow(clippy::unwrap_used)]

#[path = "../harness/mod.rs"]
mod harness;

// The load and the checker are those that kills are proved with.
#[allow(dead_code)]
#[path = "../crash/checker.rs"]
mod checker;
#[path = "../crash/history.rs"]
mod history;
#[allow(dead_code)]
#[path = "../crash/load.rs"]
mod load;

/// Functions of one argument, the kind of server, as tests of their names in a module a database.
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

//! Tests of the store. Each test is written once and runs on SQLite, PostgreSQL and MariaDB. Other files test the
//! servers that the tests start, and the proxy in front of them.
//!
//! `cargo test --features failpoints --test store postgres::` runs the tests of one database.

#![allow(clippy::unwrap_used)]

#[path = "../harness/mod.rs"]
mod harness;

/// Makes a test of each function, in a module per database. The function takes the kind of store.
macro_rules! on_each_database {
    ($($case:ident),+ $(,)?) => {
        on_each_database!(sqlite Sqlite $($case)+);
        on_each_database!(postgres Postgres $($case)+);
        on_each_database!(mariadb Mariadb $($case)+);
    };
    ($name:ident $store_kind:ident $($case:ident)+) => {
        mod $name {
            $(#[test] fn $case() { super::$case($crate::harness::StoreKind::$store_kind); })+
        }
    };
}

mod opened;

mod claims;
mod dedup;
mod exact;
mod leases;
mod numbered;
mod verbs;

mod away;
mod backups;
mod cut_commits;
mod private_servers;
mod starts;

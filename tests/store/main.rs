//! One store, whatever database it is in: each case here exists once and is run on SQLite, PostgreSQL and
//! MariaDB. And the servers which the tests start, with the proxy before them, do what they are said to do.
//!
//! `cargo test --features failpoints --test store postgres::` runs one database's.

#![allow(clippy::unwrap_used)]

#[path = "../harness/mod.rs"]
mod harness;

/// Functions of one argument, the database, as tests of their names in a module a database.
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
mod numbered;
mod verbs;

mod backups;
mod cut_commits;
mod private_servers;
mod starts;

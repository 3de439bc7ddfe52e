//! The store, on each database that there is: SQLite, PostgreSQL, MariaDB; and that the servers which the
//! tests start, and the proxy before them, do what they are said to do.

#![allow(clippy::unwrap_used)]

#[path = "../harness/mod.rs"]
mod harness;

mod cut_commits;
mod private_servers;

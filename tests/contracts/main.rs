//! The wire contracts, one file each, against the real binary.

#![allow(clippy::unwrap_used)]

#[path = "../harness/mod.rs"]
mod harness;

mod access;
mod bad_input;
mod compressed;
mod corrections;
mod cors;
mod ingest;
mod life;
mod limits;
mod live_event;
mod native;
mod personal;
mod reading;
mod site_event;
mod site_stats;
mod start;
mod tls;
mod trace;
mod view_table;

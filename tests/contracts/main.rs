//! The wire contracts, one file each, against the real binary.

#![allow(clippy::unwrap_used)]

#[path = "../harness/mod.rs"]
mod harness;

mod access;
mod bad_input;
mod corrections;
mod cors;
mod ingest;
mod life;
mod limits;
mod live_event;
mod native;
mod outbox;
mod reading;
mod site_event;
mod site_rows;
mod start;
mod view_table;

//! The wire contracts, one file each, against the real binary.

#![allow(clippy::unwrap_used)]

#[path = "../harness/mod.rs"]
mod harness;

mod access;
mod bad_input;
mod life;
mod limits;
mod live_event;
mod native;
mod reading;
mod site_stats;
mod start;
mod view_table;

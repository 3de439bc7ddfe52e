//! The wire contracts, one file each, against the real binary.

#![allow(clippy::unwrap_used)]

#[path = "../harness/mod.rs"]
mod harness;

mod live_event;

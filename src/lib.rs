//! Millrace: an event backend in one binary. The rooms, in reading order; nothing imports forward but
//! `server`, which wires them together. Two stand before them as crates: `event`, whose words all speak, and
//! `journal`, the durable log.

pub mod config;

pub mod log;
pub mod store;

pub mod admission;
pub mod dedup;

pub mod views;

pub mod http;

pub mod sources;

pub mod backup;

pub mod api;

pub mod telemetry;

pub mod server;

pub mod cli;

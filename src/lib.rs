//! Millrace: an event backend in one binary. The rooms, in reading order; nothing imports forward but
//! `server`, which wires them together. Two stand before them as crates: `event`, whose words all speak, and
//! `journal`, the durable log.

pub mod config;

pub mod eventlog;
pub mod store;

pub mod admit;
pub mod gate;

pub mod doors;
pub mod views;

pub mod backup;

pub mod serve;

pub mod telemetry;

pub mod server;

pub mod cli;

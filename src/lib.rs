//! Millrace: an event backend in one binary. The modules are listed in reading order: a module imports only modules
//! that are listed before it. Two crates are below all modules: `event`, the parts of an event, and `journal`, the
//! durable log.

pub mod config;

pub mod log;
pub mod store;

pub mod admission;
pub mod dedup;
pub mod destinations;

pub mod views;

pub mod alerts;
pub mod delivery;
pub mod live;

pub mod http;

pub mod sources;

pub mod backup;

pub mod api;

pub mod telemetry;

pub mod server;

pub mod cli;

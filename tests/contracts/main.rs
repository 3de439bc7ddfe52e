//! The wire contracts, one file each, against the real binary.

#![allow(clippy::unwrap_used)]

#[path = "../harness/mod.rs"]
mod harness;

mod access;
mod applied;
mod bad_input;
mod batches;
mod behind;
mod cloud_events;
mod compressed;
mod corrections;

mod cors;
mod dead_letters;
mod definitions;
mod etl;
mod id_scopes;
mod ingest;
mod life;
mod limits;
mod live_event;
mod live_events;
mod live_readers;
mod live_rows;
mod live_sockets;
mod live_values;
mod moved_files;
mod native;
mod nested;
mod notifications;
mod personal;
mod reading;
mod readme;
mod rebuilds;
mod site_event;
mod site_rows;
mod site_stats;
mod sql_views;
mod start;
mod tables_at_start;
mod tls;
mod trace;
mod view_table;
mod wrong_clock;

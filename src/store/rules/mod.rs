//! The rules of the store, each once for all databases: how a plan is applied, how a view begins, which events are
//! repeats, what becomes a dead letter, and which event made which row.

mod apply;
mod begin;
mod claim;
mod dead_letters;
mod decisions;
mod dedup;
mod definitions;
mod deliveries;
mod id_lists;
mod leases;
mod member_days;
mod notifications;
mod numbered_rows;
mod row_origins;
mod sql_views;

pub use apply::apply;
pub use begin::{begin_view_tables, record_view, view_faults};
pub use decisions::decide as decide_delivery;
pub use dedup::LOCK_ROW;
pub use deliveries::record as record_attempts;
pub use leases::lease;
pub use numbered_rows::delete as delete_rows;
pub use sql_views::make_sql_views;

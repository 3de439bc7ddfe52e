//! The retention of the configuration, as it applies to the views that run.

use std::collections::BTreeMap;
use std::sync::Arc;

use event::LogId;

use crate::config::Retention;
use crate::store::RowsOf;
use crate::views::{RetentionPolicy, Running};

/// Returns the retention policy for the log and for the views that run.
pub fn retention_policy(
    declared: &Retention,
    views: &BTreeMap<String, Running>,
    log: LogId,
) -> RetentionPolicy {
    let rows = declared.rows.iter().filter_map(|(view, keep)| {
        let table = views.get(view)?.view.row_table()?.table();
        Some((RowsOf { view: view.clone(), log, table: Arc::clone(table) }, *keep))
    });
    RetentionPolicy {
        log: declared.log,
        log_bytes: declared.log_bytes,
        streams: declared.streams.clone(),
        rows: rows.collect(),
    }
}

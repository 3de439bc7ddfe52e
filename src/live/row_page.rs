//! Reads the rows that a view of kind `table` has written, in the order of the log, and the removal of rows by
//! corrections. The store records which row came from which event, so rows of other nodes are found, too.

use std::collections::HashMap;

use event::LogId;
use event::limits::{FEED_PAGE_BYTES_MAX, FEED_PAGE_ITEMS_MAX, FEED_POSITIONS_READ_MAX, WIDE_ROWS_READ_MAX};
use serde_json::json;
use tokio::sync::watch;

use super::cursor::Cursor;
use super::feed::{FeedItem, FeedPage};
use super::message::ResetReason;
use crate::log::EventLog;
use crate::store::{RowOrigin, Store, StoreError, ViewPosition, rows_deleted};
use crate::views::{RowTable, Running, Watching};

/// The rows of one view.
pub struct RowSource {
    view: Running,
    table: RowTable,
    log: EventLog,
    store: Store,
}

/// Lets a view say when it has written rows.
pub struct RowsWatched {
    signal: watch::Receiver<()>,
    _watching: Watching,
}

impl RowsWatched {
    /// Waits until the view has changed since the last call.
    pub async fn change(&mut self) {
        // The sender is a part of the view.
        let _ = self.signal.changed().await;
    }
}

/// The effect of one event on the table.
enum RowChange {
    Added {
        row: i64,
    },
    /// The row of an earlier event was removed.
    Removed {
        position: u64,
    },
}

impl RowSource {
    pub fn new(view: &Running, table: &RowTable, log: &EventLog, store: &Store) -> Self {
        Self { view: view.clone(), table: table.clone(), log: log.clone(), store: store.clone() }
    }

    pub fn name(&self) -> &str {
        &self.view.view.name
    }

    pub async fn end(&self) -> Result<Cursor, StoreError> {
        Ok(Cursor::after(&self.positions().await?))
    }

    /// Begins to note changes of the view.
    pub fn changes(&self) -> RowsWatched {
        let watching = self.view.changes.watch(None);
        RowsWatched { signal: self.view.changes.signal(), _watching: watching }
    }

    async fn positions(&self) -> Result<Vec<ViewPosition>, StoreError> {
        let mut positions = self.store.positions().await?;
        positions.retain(|row| row.view == self.name());
        Ok(positions)
    }

    /// Returns why a reader at this place has to start again, and where, if it has to.
    pub async fn reset_at(&self, at: &Cursor) -> Result<Option<(ResetReason, Cursor)>, StoreError> {
        let positions = self.positions().await?;
        let end = Cursor::after(&positions);
        if at.is_replaced_by(end.generation) {
            return Ok(Some((ResetReason::RowsReplaced, end)));
        }
        // A store that was restored from an older copy applies these events again.
        if at.positions().iter().any(|(log, position)| *position > end.position(*log)) {
            return Ok(Some((ResetReason::OtherLog, end)));
        }
        let (deleted, mut left) = (rows_deleted(self.name()), at.clone());
        left.generation = end.generation;
        let mut has_lost_rows = false;
        for ViewPosition { log, .. } in positions {
            if let Some(history) = self.store.deleted_history(&deleted, log).await?
                && history.position > at.position(log)
            {
                // All rows that are left are new for the reader.
                left.set_position(log, history.position);
                has_lost_rows = true;
            }
        }
        Ok(has_lost_rows.then_some((ResetReason::Deleted, left)))
    }

    pub async fn page(&self, from: &Cursor) -> Result<FeedPage, StoreError> {
        let positions = self.positions().await?;
        let end = Cursor::after(&positions);
        if from.is_replaced_by(end.generation) {
            return Ok(FeedPage::restart(from, end, ResetReason::RowsReplaced));
        }
        let mut page = FeedPage { from: from.clone(), next: from.clone(), items: Vec::new(), reset: None };
        page.next.generation = end.generation;
        for ViewPosition { log, position, .. } in positions {
            let begin = from.position(log);
            if begin >= position {
                continue;
            }
            // Most positions may belong to other streams.
            let next = self.store.next_row_change(self.name(), log, begin, position).await?;
            let Some(begin) = next else {
                page.next.set_position(log, position);
                continue;
            };
            let until = position.min(begin.saturating_add(FEED_POSITIONS_READ_MAX));
            if !self.add_rows(&mut page, log, begin, until).await? {
                break;
            }
        }
        Ok(page)
    }

    /// Adds what the events at `begin..until` of a log did. Returns `false` if the page is full.
    async fn add_rows(
        &self,
        page: &mut FeedPage,
        log: LogId,
        begin: u64,
        until: u64,
    ) -> Result<bool, StoreError> {
        let changes = self.row_changes(log, begin, until).await?;
        let mut bytes = page.bytes();
        for some in changes.chunks(WIDE_ROWS_READ_MAX) {
            let rows = self.rows(some).await?;
            for (position, change) in some {
                if page.items.len() >= FEED_PAGE_ITEMS_MAX || bytes >= FEED_PAGE_BYTES_MAX {
                    page.next.set_position(log, *position);
                    return Ok(false);
                }
                page.next.set_position(log, position + 1);
                let row = match change {
                    RowChange::Added { row } => rows.get(row).map(|row| format!(r#""row":{row}"#)),
                    RowChange::Removed { position: removed } => {
                        let is_ours = self.is_of_stream(log, *position).await;
                        is_ours.then(|| format!(r#""removes":{removed}"#))
                    }
                };
                // A row that is not there any more was removed by a later event, or by somebody else.
                let Some(row) = row else { continue };
                let of_other =
                    if log == self.log.id() { String::new() } else { format!(r#""log":"{log}","#) };
                let view = json!(self.name());
                let content = format!(r#"{{"view":{view},{of_other}"position":{position},{row}}}"#);
                bytes += content.len();
                let place = page.next.to_string().into();
                page.items.push(FeedItem {
                    log,
                    position: *position,
                    place,
                    content: content.into(),
                    selected_by: "".into(),
                });
            }
        }
        page.next.set_position(log, until);
        Ok(true)
    }

    /// Returns what the events of the view did, in their order.
    async fn row_changes(
        &self,
        log: LogId,
        begin: u64,
        until: u64,
    ) -> Result<Vec<(u64, RowChange)>, StoreError> {
        let origins = self.store.row_origins(self.name(), log, begin, until).await?;
        let added = |origin: RowOrigin| (origin.position, RowChange::Added { row: origin.row });
        let mut changes: Vec<(u64, RowChange)> = origins.into_iter().map(added).collect();
        let corrections = self.store.corrections(log, begin, until).await?;
        if !corrections.is_empty() {
            let passed = self.store.passed_positions(self.name(), log, begin, until).await?;
            for (by, position) in corrections {
                if passed.binary_search(&by).is_err() {
                    changes.push((by, RowChange::Removed { position }));
                }
            }
            changes.sort_unstable_by_key(|(position, _)| *position);
        }
        Ok(changes)
    }

    /// Returns whether the event belongs to the view's stream. That is not known of an event in the log of another node.
    async fn is_of_stream(&self, log: LogId, position: u64) -> bool {
        if log != self.log.id() {
            return true;
        }
        let (log, stream) = (self.log.clone(), self.view.view.stream.clone());
        let read = tokio::task::spawn_blocking(move || {
            let mut reader = log.reader();
            let records = reader.read(position, 1).ok()?;
            records.iter().find_map(|record| record.ok()?.header.map(|header| header.stream == stream))
        });
        read.await.ok().flatten().unwrap_or(true)
    }

    /// Returns the rows that were added, as JSON, by their numbers.
    async fn rows(&self, changes: &[(u64, RowChange)]) -> Result<HashMap<i64, String>, StoreError> {
        let added = changes.iter().filter_map(|(_, change)| match change {
            RowChange::Added { row } => Some(*row),
            RowChange::Removed { .. } => None,
        });
        let numbers: Vec<i64> = added.collect();
        if numbers.is_empty() {
            return Ok(HashMap::new());
        }
        let read = self.table.rows_by_number(&self.store, &numbers).await;
        let rows = self.store.nothing_until_begun(self.name(), read).await?;
        Ok(rows.into_iter().collect())
    }
}

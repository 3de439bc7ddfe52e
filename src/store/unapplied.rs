//! Queries for the answer to a request that waits for its views: which of its events no view or not every view applied,
//! and which of them dedup skipped.

use std::ops::Range;

use event::limits::DEAD_LETTERS_LOOKED_UP_MAX;
use event::{EventId, LogId};

use super::stored_row::FromRow;
use super::{Cell, DEDUP_STORED_NAME, DeadLetterStatus, Skipped, Store, StoreError};

/// A dead letter without its event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterSummary {
    pub id: EventId,
    pub view: String,
    pub position: u64,
    pub event_id: EventId,
    pub reason: String,
    pub status: DeadLetterStatus,
}

const TABLE: &str = "millrace_dead_letters";
const COLUMNS: &str = "d.id, d.view, d.position, d.event_id, d.reason, d.status";

/// A dead letter of dedup is `applied` as soon as it is retried, before any view has processed the retry. So it is
/// included, whatever its status.
fn not_applied(views: &[String]) -> String {
    let marks = vec!["?"; views.len()].join(", ");
    format!("(d.status <> 'applied' OR d.view = '{DEDUP_STORED_NAME}') AND d.view IN ({marks})")
}

impl Store {
    /// Returns up to `limit` dead letters of these views, of events at `range`, that are not known to be applied, in the
    /// order of positions.
    pub async fn unapplied(
        &self,
        views: &[String],
        log: LogId,
        range: Range<u64>,
        limit: usize,
    ) -> Result<Vec<DeadLetterSummary>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM millrace_dead_letters d WHERE d.log_id = ? AND d.position >= ? AND d.position < ? \
             AND {} ORDER BY d.position, d.view LIMIT {limit}",
            not_applied(views)
        );
        let mut parameters = vec![log.into(), range.start.into(), range.end.into()];
        parameters.extend(views.iter().map(|view| Cell::from(view.as_str())));
        self.read(TABLE, &sql, parameters).await
    }

    /// Returns such dead letters of the events that are repeated at `range`. For a repeated line of an upload, that is
    /// the first event of the lines that were stored together.
    pub async fn unapplied_originals(
        &self,
        views: &[String],
        log: LogId,
        range: Range<u64>,
        limit: usize,
    ) -> Result<Vec<DeadLetterSummary>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM (SELECT DISTINCT first_log_id, first_position FROM millrace_skipped \
             WHERE log_id = ? AND part = 0 AND position >= ? AND position < ?) s JOIN millrace_dead_letters d \
             ON d.log_id = s.first_log_id AND d.position = s.first_position WHERE {} \
             ORDER BY d.position, d.view LIMIT {limit}",
            not_applied(views)
        );
        let mut parameters = vec![log.into(), range.start.into(), range.end.into()];
        parameters.extend(views.iter().map(|view| Cell::from(view.as_str())));
        self.read(TABLE, &sql, parameters).await
    }

    /// Returns the events at `from..to` that dedup skipped, in the order of positions.
    pub async fn skipped_events(&self, log: LogId, from: u64, to: u64) -> Result<Vec<Skipped>, StoreError> {
        let sql = "SELECT position, first_log_id, first_position, same_body FROM millrace_skipped \
                   WHERE log_id = ? AND part = 0 AND position >= ? AND position < ? ORDER BY position";
        self.read("millrace_skipped", sql, vec![log.into(), from.into(), to.into()]).await
    }

    /// Returns the positions of the corrections that undo the events at `positions`.
    pub async fn corrections_of(&self, log: LogId, positions: &[u64]) -> Result<Vec<u64>, StoreError> {
        let mut found = Vec::new();
        for page in positions.chunks(DEAD_LETTERS_LOOKED_UP_MAX) {
            let marks = vec!["?"; page.len()].join(", ");
            let sql = format!(
                "SELECT by_position, position FROM millrace_taken_back WHERE log_id = ? AND part = 0 AND position IN ({marks})"
            );
            let mut parameters = vec![log.into()];
            parameters.extend(page.iter().map(|position| Cell::from(*position)));
            let rows = self.read::<(u64, u64)>("millrace_taken_back", &sql, parameters).await?;
            found.extend(rows.into_iter().map(|(by, _)| by));
        }
        Ok(found)
    }
}

impl FromRow for DeadLetterSummary {
    fn from_row(row: Vec<Cell>) -> Option<Self> {
        let (id, view, position, event_id, reason, status) = FromRow::from_row(row)?;
        Some(Self { id, view, position, event_id, reason, status })
    }
}

impl FromRow for Skipped {
    fn from_row(row: Vec<Cell>) -> Option<Self> {
        let (position, first_log, first_position, same_body) = FromRow::from_row(row)?;
        Some(Self { position, first_log, first_position, same_body })
    }
}

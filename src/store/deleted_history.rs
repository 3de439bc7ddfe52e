//! How far retention has deleted old events of a stream. A rebuild of the stream's views would miss these events.

use event::LogId;

use super::{Cell, Store, StoreError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeletedHistory {
    /// Below this position, events of the stream may be deleted. 0 if none are.
    pub position: u64,
    /// Below this position, all events of the stream are deleted.
    pub blanked: u64,
}

impl Store {
    /// Returns how far events of `stream` were deleted, or `None` if that was never recorded. The name may also be
    /// [`LOG_DELETED`] or one of [`rows_deleted`].
    pub async fn deleted_history(
        &self,
        stream: &str,
        log: LogId,
    ) -> Result<Option<DeletedHistory>, StoreError> {
        let sql =
            "SELECT position, blanked FROM millrace_retained WHERE stream = ? AND log_id = ? AND part = 0";
        let found = self.read_first("millrace_retained", sql, vec![stream.into(), log.into()]).await?;
        Ok(found.map(|(position, blanked)| DeletedHistory { position, blanked }))
    }

    /// Replaces the record of how far events of `stream` were deleted.
    pub async fn note_deleted_history(
        &self,
        stream: &str,
        log: LogId,
        deleted_history: DeletedHistory,
    ) -> Result<(), StoreError> {
        let DeletedHistory { position, blanked } = deleted_history;
        let key = || -> Vec<Cell> { vec![stream.into(), log.into()] };
        let delete = "DELETE FROM millrace_retained WHERE stream = ? AND log_id = ? AND part = 0";
        let insert =
            "INSERT INTO millrace_retained (stream, log_id, part, position, blanked) VALUES (?, ?, 0, ?, ?)";
        let mut row = key();
        row.extend([position.into(), blanked.into()]);
        self.change_all(vec![(delete.to_owned(), key()), (insert.to_owned(), row)]).await.map(drop)
    }

    /// Returns whether a view has rows from events below a position.
    pub async fn has_rows_below(&self, view: &str, log: LogId, position: u64) -> Result<bool, StoreError> {
        let sql = "SELECT first_position FROM millrace_rows WHERE view = ? AND log_id = ? AND part = 0 AND first_position < ? LIMIT 1";
        let parameters = vec![view.into(), log.into(), position.into()];
        Ok(!self.rows(sql.to_owned(), parameters).await?.is_empty())
    }

    /// Returns the lowest position that is undone by a correction at `by` or later.
    pub async fn first_corrected_from(&self, log: LogId, by: u64) -> Result<Option<u64>, StoreError> {
        let sql = "SELECT position FROM millrace_taken_back WHERE log_id = ? AND part = 0 AND by_position >= ? ORDER BY position LIMIT 1";
        self.read_first("millrace_taken_back", sql, vec![log.into(), by.into()]).await
    }
}

/// The name that records a deletion at the beginning of the log. Stream names cannot contain a colon.
pub const LOG_DELETED: &str = "log:";

/// Returns the name that records a deletion of rows of a view. Stream names cannot contain a colon.
pub fn rows_deleted(view: &str) -> String {
    format!("rows:{view}")
}

//! How far retention has deleted old events of a stream. A rebuild of the stream's views would miss these events.

use event::LogId;

use super::{Cell, Store, StoreError, corrupt_row};

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
        let parameters = vec![Cell::Text(stream.to_owned()), Cell::Bytes(log.0.to_vec())];
        let rows = self.rows(sql.to_owned(), parameters).await?;
        let deleted_history = |row: &Vec<Cell>| match row.as_slice() {
            [Cell::Integer(position), Cell::Integer(blanked)] => {
                Ok(DeletedHistory { position: *position as u64, blanked: *blanked as u64 })
            }
            _ => Err(corrupt_row("millrace_retained")),
        };
        rows.first().map(deleted_history).transpose()
    }

    /// Replaces the record of how far events of `stream` were deleted.
    pub async fn note_deleted_history(
        &self,
        stream: &str,
        log: LogId,
        deleted_history: DeletedHistory,
    ) -> Result<(), StoreError> {
        let DeletedHistory { position, blanked } = deleted_history;
        let key = || vec![Cell::Text(stream.to_owned()), Cell::Bytes(log.0.to_vec())];
        let delete = "DELETE FROM millrace_retained WHERE stream = ? AND log_id = ? AND part = 0";
        let insert =
            "INSERT INTO millrace_retained (stream, log_id, part, position, blanked) VALUES (?, ?, 0, ?, ?)";
        let mut row = key();
        row.extend([Cell::Integer(position as i64), Cell::Integer(blanked as i64)]);
        self.change_all(vec![(delete.to_owned(), key()), (insert.to_owned(), row)]).await
    }

    /// Returns whether a view has rows from events below a position.
    pub async fn has_rows_below(&self, view: &str, log: LogId, position: u64) -> Result<bool, StoreError> {
        let sql = "SELECT first_position FROM millrace_rows WHERE view = ? AND log_id = ? AND part = 0 AND first_position < ? LIMIT 1";
        let parameters =
            vec![Cell::Text(view.to_owned()), Cell::Bytes(log.0.to_vec()), Cell::Integer(position as i64)];
        Ok(!self.rows(sql.to_owned(), parameters).await?.is_empty())
    }

    /// Returns the lowest position that is undone by a correction at `by` or later.
    pub async fn first_corrected_from(&self, log: LogId, by: u64) -> Result<Option<u64>, StoreError> {
        let sql = "SELECT position FROM millrace_taken_back WHERE log_id = ? AND part = 0 AND by_position >= ? ORDER BY position LIMIT 1";
        let parameters = vec![Cell::Bytes(log.0.to_vec()), Cell::Integer(by as i64)];
        Ok(self.position_list("millrace_taken_back", sql, parameters).await?.into_iter().next())
    }
}

/// The name that records a deletion at the beginning of the log. Stream names cannot contain a colon.
pub const LOG_DELETED: &str = "log:";

/// Returns the name that records a deletion of rows of a view. Stream names cannot contain a colon.
pub fn rows_deleted(view: &str) -> String {
    format!("rows:{view}")
}

//! How far a stream's old events were given up while others' were kept: what a rebuild of its views would
//! miss.

use event::LogId;

use super::{Cell, Store, StoreError, corrupt_row};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeletedHistory {
    /// Below this position, events of the stream may be gone; 0 where there were none.
    pub position: u64,
    /// Below this one, none is left.
    pub blanked: u64,
}

impl Store {
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

    pub async fn note_deleted_history(
        &self,
        stream: &str,
        log: LogId,
        deleted_history: DeletedHistory,
    ) -> Result<(), StoreError> {
        let DeletedHistory { position, blanked } = deleted_history;
        let key = || vec![Cell::Text(stream.to_owned()), Cell::Bytes(log.0.to_vec())];
        let forget = "DELETE FROM millrace_retained WHERE stream = ? AND log_id = ? AND part = 0";
        let note =
            "INSERT INTO millrace_retained (stream, log_id, part, position, blanked) VALUES (?, ?, 0, ?, ?)";
        let mut row = key();
        row.extend([Cell::Integer(position as i64), Cell::Integer(blanked as i64)]);
        self.change_all(vec![(forget.to_owned(), key()), (note.to_owned(), row)]).await
    }

    /// Returns whether a view has rows of events below a position.
    pub async fn has_rows_below(&self, view: &str, log: LogId, position: u64) -> Result<bool, StoreError> {
        let sql = "SELECT first_position FROM millrace_rows WHERE view = ? AND log_id = ? AND part = 0 AND first_position < ? LIMIT 1";
        let parameters =
            vec![Cell::Text(view.to_owned()), Cell::Bytes(log.0.to_vec()), Cell::Integer(position as i64)];
        Ok(!self.rows(sql.to_owned(), parameters).await?.is_empty())
    }

    /// The lowest position that a correction from `by` on takes back.
    pub async fn first_taken_back_from(&self, log: LogId, by: u64) -> Result<Option<u64>, StoreError> {
        let sql = "SELECT position FROM millrace_taken_back WHERE log_id = ? AND part = 0 AND by_position >= ? ORDER BY position LIMIT 1";
        let parameters = vec![Cell::Bytes(log.0.to_vec()), Cell::Integer(by as i64)];
        Ok(self.position_list("millrace_taken_back", sql, parameters).await?.into_iter().next())
    }
}

/// Under which name it is noted that the beginning of the log was given up; no stream has a colon in its own.
pub const LOG_DELETED: &str = "log:";

/// Under which name it is noted that rows of a view were given up; no stream has a colon in its own.
pub fn rows_deleted(view: &str) -> String {
    format!("rows:{view}")
}

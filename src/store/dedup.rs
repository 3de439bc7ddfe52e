//! Queries on the rows that dedup stores: client ids and runs of lines that it has seen, and events that it skipped.

use std::time::Duration;

use event::{BodyHash, EventId, LogId, Millis, UploadId};

use super::{Cell, Skipped, Store, StoreError};

const SEEN: &str = "millrace_seen";

impl Store {
    /// Returns the position at which an event with this client id was first stored.
    pub async fn first_position(&self, id: EventId) -> Result<Option<(LogId, u64)>, StoreError> {
        let sql = "SELECT log_id, position FROM millrace_seen WHERE identity = ? AND first_line = 0";
        self.read_first(SEEN, sql, vec![identity(*id.as_bytes())]).await
    }

    /// Returns the body hash of the event that was first stored with this client id, if it counts at `now`.
    pub async fn first_hash(&self, id: EventId, now: Millis) -> Result<Option<BodyHash>, StoreError> {
        let sql = "SELECT body_hash FROM millrace_seen WHERE identity = ? AND first_line = 0 AND (expires IS NULL OR expires >= ?)";
        self.read_first(SEEN, sql, vec![identity(*id.as_bytes()), now.into()]).await
    }

    /// Returns why views skip an event, if they do: the position of its first occurrence, and whether the two bodies
    /// are the same.
    pub async fn skipped(&self, log: LogId, position: u64) -> Result<Option<Skipped>, StoreError> {
        let sql = "SELECT first_log_id, first_position, same_body FROM millrace_skipped WHERE log_id = ? AND part = 0 AND position = ?";
        let found = self.read_first("millrace_skipped", sql, vec![log.into(), position.into()]).await?;
        Ok(found.map(|(first_log, first_position, same_body)| Skipped {
            position,
            first_log,
            first_position,
            same_body,
        }))
    }

    /// Returns the runs of an upload's lines that dedup has seen: first line, number of lines, hash of the run.
    pub async fn upload_lines(
        &self,
        upload: UploadId,
        from_line: u64,
        limit: usize,
    ) -> Result<Vec<(u64, u64, BodyHash)>, StoreError> {
        let sql = format!(
            "SELECT first_line, line_count, body_hash FROM millrace_seen WHERE identity = ? AND first_line >= ? ORDER BY first_line LIMIT {limit}"
        );
        self.read(SEEN, &sql, vec![identity(upload.0), from_line.into()]).await
    }

    /// Deletes the dedup rows that expired before `before`: about `rows` of them, or more if many have the same time.
    /// Returns the number of deleted rows.
    pub async fn prune_dedup(&self, before: Millis, rows: usize) -> Result<usize, StoreError> {
        let sql = format!(
            "SELECT expires FROM millrace_seen WHERE kept = 0 AND expires < ? ORDER BY expires LIMIT 1 OFFSET {rows}"
        );
        let beyond: Option<i64> = self.read_first(SEEN, &sql, vec![before.into()]).await?;
        // The time of the first row beyond the limit: rows with that time are deleted too.
        let before = beyond.map_or(before.0, |expires| expires.saturating_add(1));
        let sql = "DELETE FROM millrace_seen WHERE kept = 0 AND expires < ?";
        self.change(sql.to_owned(), vec![Cell::Integer(before)]).await
    }

    /// Gives rows that an earlier version stored without an expiry the one that follows from `window`, about `rows` of
    /// them in one statement.
    pub async fn add_missing_expiries(&self, window: Duration, rows: usize) -> Result<(), StoreError> {
        let page = format!(
            "SELECT received FROM millrace_seen WHERE kept = 0 AND expires IS NULL ORDER BY received LIMIT 1 OFFSET {rows}"
        );
        let set = "UPDATE millrace_seen SET expires = received + ? WHERE kept = 0 AND expires IS NULL AND received <= ?";
        let window = Cell::Integer(window.as_millis() as i64);
        loop {
            let beyond: Option<i64> = self.read_first(SEEN, &page, Vec::new()).await?;
            let until = Cell::Integer(beyond.unwrap_or(i64::MAX));
            self.change(set.to_owned(), vec![window.clone(), until]).await?;
            if beyond.is_none() {
                return Ok(());
            }
        }
    }
}

fn identity(bytes: [u8; 16]) -> Cell {
    Cell::Bytes(bytes.to_vec())
}

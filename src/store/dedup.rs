//! Queries on the rows that dedup stores: client ids and runs of lines that it has seen, and events that it skipped.

use event::{BodyHash, EventId, LogId, Millis, UploadId};

use super::{Cell, Skipped, Store, StoreError, corrupt_row};

impl Store {
    /// Returns the position at which an event with this client id was first stored.
    pub async fn first_position(&self, id: EventId) -> Result<Option<(LogId, u64)>, StoreError> {
        let sql = "SELECT log_id, position FROM millrace_seen WHERE identity = ? AND first_line = 0";
        let rows = self.rows(sql.to_owned(), vec![Cell::Bytes(id.as_bytes().to_vec())]).await?;
        let position = |row: Vec<Cell>| match <[Cell; 2]>::try_from(row) {
            Ok([Cell::Bytes(log), Cell::Integer(position)]) => {
                Some((LogId(log.try_into().ok()?), position as u64))
            }
            _ => None,
        };
        rows.into_iter()
            .next()
            .map(|row| position(row).ok_or_else(|| corrupt_row("millrace_seen")))
            .transpose()
    }

    /// Returns the body hash of the event that was first stored with this client id.
    pub async fn first_hash(&self, id: EventId) -> Result<Option<BodyHash>, StoreError> {
        let sql = "SELECT body_hash FROM millrace_seen WHERE identity = ? AND first_line = 0";
        let rows = self.rows(sql.to_owned(), vec![Cell::Bytes(id.as_bytes().to_vec())]).await?;
        let hash = |cell: Cell| match cell {
            Cell::Bytes(hash) => Some(BodyHash(hash.try_into().ok()?)),
            _ => None,
        };
        let first = rows.into_iter().flatten().next();
        first.map(|cell| hash(cell).ok_or_else(|| corrupt_row("millrace_seen"))).transpose()
    }

    /// Returns why views skip an event, if they do: the position of its first occurrence, and whether the two bodies
    /// are the same.
    pub async fn skipped(&self, log: LogId, position: u64) -> Result<Option<Skipped>, StoreError> {
        let sql = "SELECT first_log_id, first_position, same_body FROM millrace_skipped WHERE log_id = ? AND part = 0 AND position = ?";
        let rows = self
            .rows(sql.to_owned(), vec![Cell::Bytes(log.0.to_vec()), Cell::Integer(position as i64)])
            .await?;
        let skipped = |row: Vec<Cell>| match <[Cell; 3]>::try_from(row) {
            Ok([Cell::Bytes(first_log), Cell::Integer(first), Cell::Integer(same)]) => Some(Skipped {
                position,
                first_log: LogId(first_log.try_into().ok()?),
                first_position: first as u64,
                same_body: same == 1,
            }),
            _ => None,
        };
        rows.into_iter()
            .next()
            .map(|row| skipped(row).ok_or_else(|| corrupt_row("millrace_skipped")))
            .transpose()
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
        let rows =
            self.rows(sql, vec![Cell::Bytes(upload.0.to_vec()), Cell::Integer(from_line as i64)]).await?;
        let run = |row: Vec<Cell>| match <[Cell; 3]>::try_from(row) {
            Ok([Cell::Integer(first), Cell::Integer(count), Cell::Bytes(hash)]) => {
                Some((first as u64, count as u64, BodyHash(hash.try_into().ok()?)))
            }
            _ => None,
        };
        rows.into_iter().map(|row| run(row).ok_or_else(|| corrupt_row("millrace_seen"))).collect()
    }

    /// Deletes the oldest dedup rows received before `before`, except those that are kept without a time limit.
    /// Deletes about `rows` of them, or more if many have the same time. Returns the number of deleted rows.
    pub async fn prune_dedup(&self, before: Millis, rows: usize) -> Result<usize, StoreError> {
        let sql = format!(
            "SELECT received FROM millrace_seen WHERE kept = 0 AND received < ? ORDER BY received LIMIT 1 OFFSET {rows}"
        );
        let beyond = self.rows(sql, vec![Cell::Integer(before.0)]).await?;
        let before = match beyond.first().map(Vec::as_slice) {
            // The time of the first row beyond the limit: rows with that time are deleted too.
            Some([Cell::Integer(received)]) => received.saturating_add(1),
            _ => before.0,
        };
        let sql = "DELETE FROM millrace_seen WHERE kept = 0 AND received < ?";
        self.change(sql.to_owned(), vec![Cell::Integer(before)]).await
    }
}

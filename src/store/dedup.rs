//! What the gate noted, as it is stored: ids and runs of lines that were seen, and events that were left out.

use event::{BodyHash, EventId, LogId, Millis, UploadId};

use super::{Cell, Skipped, Store, StoreError, corrupt_row};

impl Store {
    /// Where an event with a client's id was first stored.
    pub async fn first_position(&self, id: EventId) -> Result<Option<(LogId, u64)>, StoreError> {
        let sql = "SELECT log_id, position FROM millrace_seen WHERE identity = ? AND first_line = 0";
        let rows = self.rows(sql.to_owned(), vec![Cell::Bytes(id.as_bytes().to_vec())]).await?;
        let place = |row: Vec<Cell>| match <[Cell; 2]>::try_from(row) {
            Ok([Cell::Bytes(log), Cell::Integer(position)]) => {
                Some((LogId(log.try_into().ok()?), position as u64))
            }
            _ => None,
        };
        rows.into_iter().next().map(|row| place(row).ok_or_else(|| corrupt_row("millrace_seen"))).transpose()
    }

    /// What an event with a client's id was like when it was first stored.
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

    /// Why views do not see an event, if they do not: the place of the first, and whether it was the same.
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

    /// The runs of lines of a source that have passed the gate: first line, lines, hash of the run.
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

    /// Forgets what the gate saw before a time and does not keep for ever, the oldest first: about as many rows
    /// as that, and more where they are of one moment. How many there were.
    pub async fn prune_dedup(&self, before: Millis, rows: usize) -> Result<usize, StoreError> {
        let sql = format!(
            "SELECT received FROM millrace_seen WHERE kept = 0 AND received < ? ORDER BY received LIMIT 1 OFFSET {rows}"
        );
        let beyond = self.rows(sql, vec![Cell::Integer(before.0)]).await?;
        let before = match beyond.first().map(Vec::as_slice) {
            // The moment of the first that might stay: those of the same one go with it.
            Some([Cell::Integer(received)]) => received.saturating_add(1),
            _ => before.0,
        };
        let sql = "DELETE FROM millrace_seen WHERE kept = 0 AND received < ?";
        self.change(sql.to_owned(), vec![Cell::Integer(before)]).await
    }
}

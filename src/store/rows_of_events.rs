//! The rows of table views, by the events that they came from: their origins, and their deletion.

use event::LogId;

use super::cell::{Cell, CellRef};
use super::numbered_rows::{RowsOf, RowsToDelete};
use super::row_origins::{self, RowOrigin, RowOriginBase};
use super::stored_row::corrupt_row;
use super::{Store, StoreError};

impl Store {
    /// Deletes the rows of the events at `positions`, with their stored origins. Returns the number of rows.
    pub async fn delete_rows(&self, of: RowsOf, positions: Vec<u64>) -> Result<usize, StoreError> {
        self.delete_matching(of, RowsToDelete::Positions(positions)).await
    }

    /// Deletes up to `rows_max` rows of events below `position`. Returns the number of deleted rows; 0 means that no
    /// row was left.
    pub async fn delete_rows_below(
        &self,
        of: RowsOf,
        position: u64,
        rows_max: usize,
    ) -> Result<usize, StoreError> {
        self.delete_matching(of, RowsToDelete::Below { position, rows_max }).await
    }

    async fn delete_matching(&self, of: RowsOf, to_delete: RowsToDelete) -> Result<usize, StoreError> {
        either!(self: Sqlite | Remote, store => store.delete_rows(of, to_delete).await)
    }

    /// Returns the origins of the rows that `view` wrote for events at `from..to`, in the order of positions.
    pub async fn row_origins(
        &self,
        view: &str,
        log: LogId,
        from: u64,
        to: u64,
    ) -> Result<Vec<RowOrigin>, StoreError> {
        // Entries do not overlap: the last one that begins at or before `from` is the first that matters.
        let sql = "SELECT first_position, first_row, received_min, places FROM millrace_rows
                   WHERE view = ? AND log_id = ? AND part = 0 AND first_position < ? AND first_position >= coalesce(
                   (SELECT max(first_position) FROM millrace_rows WHERE view = ? AND log_id = ? AND part = 0 AND first_position <= ?), 0)
                   ORDER BY first_position";
        let parameters = vec![view.into(), log.into(), to.into(), view.into(), log.into(), from.into()];
        let mut found = Vec::new();
        let entries: Vec<(_, _, _, Vec<u8>)> = self.read("millrace_rows", sql, parameters).await?;
        for (first_position, first_row, received_min, bytes) in entries {
            let base = RowOriginBase { first_position, first_row, received_min };
            let origins = row_origins::decode(base, &bytes).ok_or_else(|| corrupt_row("millrace_rows"))?;
            found.extend(origins.into_iter().filter(|origin| (from..to).contains(&origin.position)));
        }
        Ok(found)
    }

    /// Returns the first position within `from..to` at which `view` may have written a row, or at which a correction may
    /// have removed one; `None` if there is none.
    pub async fn next_row_change(
        &self,
        view: &str,
        log: LogId,
        from: u64,
        to: u64,
    ) -> Result<Option<u64>, StoreError> {
        // Entries do not overlap: only the last one that begins at or before `from` can reach over it.
        let rows = "SELECT min(first_position) FROM millrace_rows
                    WHERE view = ? AND log_id = ? AND part = 0 AND last_position >= ? AND first_position < ? AND first_position >= coalesce(
                    (SELECT max(first_position) FROM millrace_rows WHERE view = ? AND log_id = ? AND part = 0 AND first_position <= ?), 0)";
        let parameters =
            vec![view.into(), log.into(), from.into(), to.into(), view.into(), log.into(), from.into()];
        let row: Option<Option<u64>> = self.read_first("millrace_rows", rows, parameters).await?;
        let corrections = "SELECT min(by_position) FROM millrace_taken_back WHERE log_id = ? AND part = 0 AND by_position >= ? AND by_position < ?";
        let parameters = vec![log.into(), from.into(), to.into()];
        let correction: Option<Option<u64>> =
            self.read_first("millrace_taken_back", corrections, parameters).await?;
        let first = [row.flatten(), correction.flatten()].into_iter().flatten().min();
        Ok(first.map(|first| first.max(from)))
    }

    /// Returns a cell in the form in which this database stores it.
    pub fn stored<'a>(&self, cell: impl Into<CellRef<'a>>) -> Cell {
        match self {
            Self::Sqlite(_) => super::sqlite::stored(cell.into()),
            Self::Remote(_) => cell.into().to_cell(),
        }
    }

    /// Returns the positions of corrected events of `log` within `from..to`, each with its correction's position.
    pub async fn corrected(&self, log: LogId, from: u64, to: u64) -> Result<Vec<(u64, u64)>, StoreError> {
        let sql = "SELECT position, by_position FROM millrace_taken_back WHERE log_id = ? AND part = 0 AND position >= ? AND position < ? ORDER BY position";
        self.read("millrace_taken_back", sql, vec![log.into(), from.into(), to.into()]).await
    }
}

//! Reads of a view's rows, which may not exist yet, together with the view's positions.

use super::cell::Cell;
use super::stored_row::decoded;
use super::tables::quote;
use super::{Select, Store, StoreError, ViewPosition};

impl Store {
    /// Runs queries about a view on one snapshot of the database, and returns the view's positions in the same snapshot.
    pub async fn rows_with_positions(
        &self,
        view: &str,
        mut selects: Vec<Select>,
    ) -> Result<(Vec<Vec<Vec<Cell>>>, Vec<ViewPosition>), StoreError> {
        let sql = "SELECT view, log_id, position, definition, generation FROM millrace_positions \
                   WHERE view = ? ORDER BY log_id";
        selects.push(Select { sql: sql.to_owned(), parameters: vec![view.into()] });
        let mut read = self.rows_together(selects).await?;
        let positions = read.pop().unwrap_or_default().into_iter();
        let positions = positions.map(|row| decoded("millrace_positions", row));
        Ok((read, positions.collect::<Result<_, _>>()?))
    }

    /// Turns a missing table into no rows if the view has not begun. If the table of a running view is gone, the
    /// error stays, because an empty result would be wrong. A view may begin between the two lookups, and has its
    /// table then.
    pub async fn nothing_until_begun<T: Default>(
        &self,
        view: &str,
        read: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if let Err(StoreError::NoTable(table)) = &read {
            let begun = self.positions().await?.iter().any(|row| row.view == view);
            let nothing = format!("SELECT 1 FROM {} WHERE 1 = 0", quote(table));
            if !begun || self.rows(nothing, Vec::new()).await.is_ok() {
                return Ok(T::default());
            }
        }
        read
    }
}

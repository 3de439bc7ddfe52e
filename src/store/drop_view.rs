//! Deletes millrace's own records of a view that was removed from the configuration: its position and the rows
//! about it. The view's tables belong to the user and stay.

use super::deleted_history::rows_deleted;
use super::{Cell, Store, StoreError};

impl Store {
    /// Deletes all records of `view`. Returns `false` if no view of that name ever began.
    pub async fn drop_view(&self, view: &str) -> Result<bool, StoreError> {
        if !self.positions().await?.iter().any(|row| row.view == view) {
            return Ok(false);
        }
        let name = |name: &str| vec![Cell::Text(name.to_owned())];
        let tables = [
            "millrace_positions",
            "millrace_definitions",
            "millrace_prepared",
            "millrace_passed",
            "millrace_opening",
            "millrace_rows",
            "millrace_delivery_contents",
            "millrace_attempts",
            "millrace_deliveries",
        ];
        let deletes = tables.map(|table| (format!("DELETE FROM {table} WHERE view = ?"), name(view)));
        let owner = "DELETE FROM millrace_meta WHERE name LIKE 'owner of table %' AND value = ?".to_owned();
        let deleted_rows = "DELETE FROM millrace_retained WHERE stream = ?".to_owned();
        let mut statements = Vec::from(deletes);
        statements.extend([(owner, name(view)), (deleted_rows, name(&rows_deleted(view)))]);
        self.change_all(statements).await?;
        Ok(true)
    }
}

//! Forgetting a view that is no longer declared: where it stands, and what is noted for it. Its tables are
//! the user's, and stay.

use super::deleted_history::rows_deleted;
use super::{Cell, Store, StoreError};

impl Store {
    /// `false` where no view of that name ever began.
    pub async fn drop_view(&self, view: &str) -> Result<bool, StoreError> {
        if !self.positions().await?.iter().any(|row| row.view == view) {
            return Ok(false);
        }
        let name = |name: &str| vec![Cell::Text(name.to_owned())];
        let noted = ["millrace_positions", "millrace_passed", "millrace_opening", "millrace_rows"];
        let noted = noted.map(|table| (format!("DELETE FROM {table} WHERE view = ?"), name(view)));
        let owned = "DELETE FROM millrace_meta WHERE name LIKE 'owner of table %' AND value = ?".to_owned();
        let given_up = "DELETE FROM millrace_retained WHERE stream = ?".to_owned();
        let mut statements = Vec::from(noted);
        statements.extend([(owned, name(view)), (given_up, name(&rows_deleted(view)))]);
        self.change_all(statements).await?;
        Ok(true)
    }
}

//! Which destinations a person, or an answer of a receiver, has paused.

use super::{Cell, Store, StoreError};

/// The rows of `millrace_meta` that name paused destinations begin with this.
const PAUSED: &str = "paused destination ";

impl Store {
    /// Returns the destinations that are paused, each with the reason.
    pub async fn paused_destinations(&self) -> Result<Vec<(String, String)>, StoreError> {
        let sql = "SELECT name, value FROM millrace_meta WHERE name LIKE 'paused destination %'";
        let rows: Vec<(String, String)> = self.read("millrace_meta", sql, Vec::new()).await?;
        let name = |(name, reason): (String, String)| (name.replacen(PAUSED, "", 1), reason);
        Ok(rows.into_iter().map(name).collect())
    }

    /// Pauses a destination for this reason, or resumes it.
    pub async fn pause_destination(&self, name: &str, reason: Option<&str>) -> Result<(), StoreError> {
        let row = || Cell::Text(format!("{PAUSED}{name}"));
        let mut statements = vec![("DELETE FROM millrace_meta WHERE name = ?".to_owned(), vec![row()])];
        if let Some(reason) = reason {
            let insert = "INSERT INTO millrace_meta (name, value) VALUES (?, ?)";
            statements.push((insert.to_owned(), vec![row(), reason.into()]));
        }
        self.change_all(statements).await.map(drop)
    }
}

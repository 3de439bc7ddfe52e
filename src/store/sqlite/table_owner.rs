//! Records which view owns a table, when the view begins. Without this check, a renamed view would use its old table
//! with a new position. It would treat the old counts as content from before the view, and count all events again.

use rusqlite::{Connection, OptionalExtension};

use super::errors::classify;
use super::shape;
use crate::store::StoreError;
use crate::store::tables::Table;

/// Records `view` as the owner of `table`. Fails if another view owns it.
pub fn claim(connection: &Connection, table: &Table, view: &str) -> Result<(), StoreError> {
    let name = format!("owner of table {}", table.name.to_ascii_lowercase());
    let sql = "SELECT value FROM millrace_meta WHERE name = ?1";
    let owner: Option<String> =
        connection.query_row(sql, [&name], |row| row.get(0)).optional().map_err(classify)?;
    match owner {
        Some(owner) if owner == view => return Ok(()),
        // A dropped table has no owner: the view creates it and counts from the beginning.
        Some(owner) if shape::exists(connection, &table.name)? => {
            return Err(StoreError::Blocked(format!(
                "table `{}` belongs to view `{owner}`, and view `{view}` would count its content again: name the view `{owner}` as before, give `{view}` another table, or drop the table to count from the start",
                table.name
            )));
        }
        _ => {}
    }
    let sql = "INSERT OR REPLACE INTO millrace_meta (name, value) VALUES (?1, ?2)";
    connection.execute(sql, [&name, view]).map(drop).map_err(classify)
}

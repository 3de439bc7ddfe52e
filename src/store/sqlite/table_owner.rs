//! Which view a table belongs to, noted when the view begins. A view under a new name over the table of
//! an old one would take what that one counted for what was there before, and count all of it again.

use rusqlite::{Connection, OptionalExtension};

use super::errors::classify;
use super::shape;
use crate::store::StoreError;
use crate::store::tables::Table;

/// Notes `view` as the owner of `table`, unless another view is.
pub fn take(connection: &Connection, table: &Table, view: &str) -> Result<(), StoreError> {
    let name = format!("owner of table {}", table.name.to_ascii_lowercase());
    let sql = "SELECT value FROM millrace_meta WHERE name = ?1";
    let owner: Option<String> =
        connection.query_row(sql, [&name], |row| row.get(0)).optional().map_err(classify)?;
    match owner {
        Some(owner) if owner == view => return Ok(()),
        // A table that is gone is nobody's: whoever begins makes it anew, and counts from the beginning.
        Some(owner) if shape::exists(connection, &table.name)? => {
            return Err(StoreError::Blocked(format!(
                "table `{}` holds what view `{owner}` counted, and view `{view}` would count it again: call the view `{owner}` as before, give `{view}` another table, or drop the table to have `{view}` count it anew",
                table.name
            )));
        }
        _ => {}
    }
    let sql = "INSERT OR REPLACE INTO millrace_meta (name, value) VALUES (?1, ?2)";
    connection.execute(sql, [&name, view]).map(drop).map_err(classify)
}

//! Starts a view in SQLite, the first time and at each later start. The view's tables are created or checked. The
//! first time, its position and the amounts that its table already holds are stored.

use rusqlite::{Connection, params};

use super::apply::stored_position;
use super::errors::classify;
use super::{row_origins, shape, statements, table_owner};
use crate::store::StoreError;
use crate::store::plan::Claim;
use crate::store::tables::{Opening, Table, ViewTables, quote};

pub fn view(connection: &Connection, claim: &Claim, tables: &ViewTables) -> Result<(), StoreError> {
    let begun = stored_position(connection, claim).map_err(classify)?.is_some();
    let mut existed = Vec::with_capacity(tables.tables.len());
    let derived = tables.tables.iter().flat_map(statements::derived_tables);
    for table in tables.tables.iter().cloned().chain(derived) {
        if tables.owned {
            table_owner::claim(connection, &table, &claim.view)?;
        }
        existed.push(begin_table(connection, &table, begun)?);
    }
    if begun {
        return Ok(());
    }
    // If the view has applied another log, the amounts in its table are not from before the view.
    let has_position = "SELECT EXISTS (SELECT 1 FROM millrace_positions WHERE view = ?1)";
    let applied_other_log: bool =
        connection.query_row(has_position, [&claim.view], |row| row.get(0)).map_err(classify)?;
    let sql = "INSERT INTO millrace_positions (view, log_id, part, position) VALUES (?1, ?2, 0, ?3)";
    connection.execute(sql, params![claim.view, claim.log.0, claim.from as i64]).map_err(classify)?;
    row_origins::delete_all(connection, claim).map_err(classify)?;
    match (&tables.opening, tables.tables.first(), existed.first()) {
        (Some(opening), Some(table), Some(true)) if !applied_other_log => {
            store_opening(connection, table, opening)
        }
        _ => Ok(()),
    }
}

/// Copies the amounts that the table holds before the view begins.
fn store_opening(connection: &Connection, table: &Table, opening: &Opening) -> Result<(), StoreError> {
    let (key, amount, table) =
        (quote(&opening.key_column), quote(&opening.amount_column), quote(&table.name));
    let sql = format!(
        "INSERT OR IGNORE INTO millrace_opening (view, row_key, amount) SELECT ?1, {key}, {amount} FROM {table}"
    );
    connection.execute(&sql, [&opening.view]).map(drop).map_err(classify)
}

/// Creates or checks a table, and returns whether it existed. Fails if a view that has begun has lost its table: a
/// new empty table would silently miss everything that was counted before.
fn begin_table(connection: &Connection, table: &Table, begun: bool) -> Result<bool, StoreError> {
    match (shape::exists(connection, &table.name)?, begun) {
        (true, _) => shape::check(connection, table).map(|()| true),
        (false, true) => Err(StoreError::NoTable(table.name.clone())),
        (false, false) => connection
            .execute_batch(&statements::create_table(table, false))
            .map(|()| false)
            .map_err(classify),
    }
}

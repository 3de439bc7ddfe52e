//! A view's first moment in SQLite, and each later one at which it begins to run again: its tables are
//! made or looked at, its position and what it found there are noted.

use rusqlite::{Connection, params};

use super::apply::stored_position;
use super::errors::classify;
use super::{row_origins, shape, statements, table_owner};
use crate::store::StoreError;
use crate::store::plan::Claim;
use crate::store::tables::{Opening, Table, ViewTables, quote};

pub fn view(connection: &Connection, claim: &Claim, tables: &ViewTables) -> Result<(), StoreError> {
    let known = stored_position(connection, claim).map_err(classify)?.is_some();
    let mut were_there = Vec::with_capacity(tables.tables.len());
    let derived_index = tables.tables.iter().flat_map(statements::derived_index);
    for table in tables.tables.iter().cloned().chain(derived_index) {
        if tables.owned {
            table_owner::take(connection, &table, &claim.view)?;
        }
        were_there.push(begin_table(connection, &table, known)?);
    }
    if known {
        return Ok(());
    }
    // What was counted out of another log was not there before the view.
    let counted = "SELECT EXISTS (SELECT 1 FROM millrace_positions WHERE view = ?1)";
    let elsewhere: bool = connection.query_row(counted, [&claim.view], |row| row.get(0)).map_err(classify)?;
    let sql = "INSERT INTO millrace_positions (view, log_id, part, position) VALUES (?1, ?2, 0, ?3)";
    connection.execute(sql, params![claim.view, claim.log.0, claim.from as i64]).map_err(classify)?;
    row_origins::begin_anew(connection, claim).map_err(classify)?;
    match (&tables.opening, tables.tables.first(), were_there.first()) {
        (Some(opening), Some(table), Some(true)) if !elsewhere => keep_opening(connection, table, opening),
        _ => Ok(()),
    }
}

fn keep_opening(connection: &Connection, table: &Table, opening: &Opening) -> Result<(), StoreError> {
    let (key, amount, table) =
        (quote(&opening.key_column), quote(&opening.amount_column), quote(&table.name));
    let sql = format!(
        "INSERT OR IGNORE INTO millrace_opening (view, row_key, amount) SELECT ?1, {key}, {amount} FROM {table}"
    );
    connection.execute(&sql, [&opening.view]).map(drop).map_err(classify)
}

/// Whether the table was there. A view that has begun needs its table: made anew it would be empty, and
/// what was counted into it would be missing without a word.
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

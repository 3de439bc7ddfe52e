//! Whether a table that was there before its view can carry it: columns, types, key, collation. A table
//! that would round an amount or merge two users is refused, with the SQL that mends it.

use rusqlite::{Connection, OptionalExtension};

use super::errors::sorted;
use crate::store::StoreError;
use crate::store::tables::{ColumnKind, Table, quote};

struct Found {
    name: String,
    kind: String,
    required: bool,
    in_key: bool,
}

/// `false` where there is no such table.
pub fn exists(connection: &Connection, table: &str) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE";
    connection.query_row(sql, [table], |_| Ok(())).optional().map(|row| row.is_some()).map_err(sorted)
}

pub fn check(connection: &Connection, table: &Table) -> Result<(), StoreError> {
    let found = columns(connection, &table.name).map_err(sorted)?;
    for column in &table.columns {
        let Some(there) = found.iter().find(|there| there.name.eq_ignore_ascii_case(&column.name)) else {
            return Err(blocked(&table.name, &format!("has no column `{}`", column.name)));
        };
        if !holds(&there.kind, column.kind) {
            return Err(blocked(&table.name, &too_narrow(&table.name, there)));
        }
    }
    let names =
        |there: &&Found| !table.columns.iter().any(|column| column.name.eq_ignore_ascii_case(&there.name));
    if let Some(more) = found.iter().filter(names).find(|there| there.required && !there.in_key) {
        let reason = format!("has a column `{}` that must be given and has no default", more.name);
        return Err(blocked(&table.name, &reason));
    }
    match has_key(connection, table).map_err(sorted)? {
        true => Ok(()),
        false => {
            let key: Vec<String> =
                table.columns[..table.key_columns].iter().map(|column| quote(&column.name)).collect();
            let table_name = quote(&table.name);
            let reason = format!(
                "needs a unique key that compares byte for byte; this makes one: CREATE UNIQUE INDEX {} ON {table_name} ({} COLLATE BINARY)",
                quote(&format!("{}_key", table.name)),
                key.join(" COLLATE BINARY, "),
            );
            Err(blocked(&table.name, &reason))
        }
    }
}

fn blocked(table: &str, reason: &str) -> StoreError {
    StoreError::Blocked(format!("table `{table}` {reason}"))
}

fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<Found>> {
    let sql = "SELECT name, type, \"notnull\" AND dflt_value IS NULL, pk FROM pragma_table_info(?1)";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([table], |row| {
        let in_key: i64 = row.get(3)?;
        Ok(Found { name: row.get(0)?, kind: row.get(1)?, required: row.get(2)?, in_key: in_key > 0 })
    })?;
    rows.collect()
}

/// SQLite's rule of affinity: what a column's declared type does to the values put into it.
fn holds(declared: &str, kind: ColumnKind) -> bool {
    let declared = declared.to_ascii_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
    let (integer, text) = (has(&["INT"]), has(&["CHAR", "CLOB", "TEXT"]));
    let untouched = declared.is_empty() || has(&["BLOB"]);
    match kind {
        ColumnKind::Text { .. } | ColumnKind::LongText | ColumnKind::Decimal | ColumnKind::Time => {
            !integer && (text || untouched)
        }
        ColumnKind::Integer => integer || (!text && !has(&["REAL", "FLOA", "DOUB"])),
        ColumnKind::Bytes => !integer && (text || untouched),
    }
}

fn too_narrow(table: &str, column: &Found) -> String {
    let (table, name, old) = (quote(table), quote(&column.name), quote(&format!("{}_before", column.name)));
    format!(
        "has a column `{}` of type {}, which does not keep every value exactly; this mends it: \
         ALTER TABLE {table} RENAME COLUMN {name} TO {old}; ALTER TABLE {table} ADD COLUMN {name} TEXT NOT NULL DEFAULT '0'; \
         UPDATE {table} SET {name} = CAST({old} AS TEXT); ALTER TABLE {table} DROP COLUMN {old}",
        column.name, column.kind
    )
}

/// A unique, whole, byte-for-byte index over exactly the key columns.
fn has_key(connection: &Connection, table: &Table) -> rusqlite::Result<bool> {
    let mut statement =
        connection.prepare("SELECT name FROM pragma_index_list(?1) WHERE \"unique\" = 1 AND partial = 0")?;
    let indexes: Vec<String> =
        statement.query_map([&table.name], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let mut wanted: Vec<String> =
        table.columns[..table.key_columns].iter().map(|column| column.name.to_lowercase()).collect();
    wanted.sort();
    for index in indexes {
        let mut statement =
            connection.prepare("SELECT lower(name), coll FROM pragma_index_xinfo(?1) WHERE key = 1")?;
        let parts: Vec<(Option<String>, String)> = statement
            .query_map([&index], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let mut names: Vec<String> = parts.iter().filter_map(|(name, _)| name.clone()).collect();
        names.sort();
        if names == wanted && parts.iter().all(|(_, collation)| collation == "BINARY") {
            return Ok(true);
        }
    }
    Ok(false)
}

//! Checks whether a view can use an existing table: its columns, types, key and collation. A table that would round
//! an amount or merge two users is refused, with the SQL that fixes it.

use rusqlite::{Connection, OptionalExtension};

use super::errors::classify;
use super::statements;
use crate::store::StoreError;
use crate::store::tables::{Column, ColumnKind, Table, quote};

struct ColumnInfo {
    name: String,
    kind: String,
    not_null: bool,
    default: Option<String>,
    in_key: bool,
}

/// Returns whether the table exists.
pub fn exists(connection: &Connection, table: &str) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE";
    connection.query_row(sql, [table], |_| Ok(())).optional().map(|row| row.is_some()).map_err(classify)
}

/// Fails with `Blocked` if the view cannot use the existing table. If possible, the reason includes the SQL that
/// fixes the table.
pub fn check(connection: &Connection, table: &Table) -> Result<(), StoreError> {
    let blocked = |reason: String| Err(StoreError::Blocked(format!("table `{}` {reason}", table.name)));
    let found = columns(connection, &table.name).map_err(classify)?;
    for (index, column) in table.columns.iter().enumerate() {
        let in_key = index < table.key_columns;
        let Some(existing) = found.iter().find(|existing| existing.name.eq_ignore_ascii_case(&column.name))
        else {
            let fix = if in_key {
                String::new()
            } else {
                format!("; to fix it, run: {}", add_column(table, column))
            };
            return blocked(format!("has no column `{}`{fix}", column.name));
        };
        let fix = || if in_key { replace_table(table, &found) } else { change_type(table, existing, column) };
        if !stores_exactly(&existing.kind, column.kind) {
            return blocked(format!(
                "has a column `{}` of type {}, which does not store every value exactly; to fix it, run: {}",
                existing.name,
                existing.kind,
                fix()
            ));
        }
        if column.null && existing.not_null {
            return blocked(format!(
                "has a column `{}` that is NOT NULL, but not every event has a value for it; to fix it, run: {}",
                existing.name,
                fix()
            ));
        }
    }
    let more = found.iter().find(|existing| {
        existing.not_null
            && existing.default.is_none()
            && !existing.in_key
            && !is_declared(table, &existing.name)
    });
    if let Some(more) = more {
        return blocked(format!(
            "has a column `{}` that is NOT NULL and has no default; give it a default, or remove the column",
            more.name
        ));
    }
    if let Some(id) = &table.id {
        return if numbers_rows(connection, table, id, &found).map_err(classify)? {
            Ok(())
        } else {
            blocked(format!(
                "needs a column `{id}` that is its INTEGER PRIMARY KEY; to fix it, run: {}",
                replace_table(table, &found)
            ))
        };
    }
    check_key(connection, table, &found)
}

/// Fails if the table has no unique key over the view's key columns that compares byte for byte, or another one.
fn check_key(connection: &Connection, table: &Table, found: &[ColumnInfo]) -> Result<(), StoreError> {
    let blocked = |reason: String| Err(StoreError::Blocked(format!("table `{}` {reason}", table.name)));
    let keys = keys(connection, table).map_err(classify)?;
    // Even if there is a suitable key, another one that treats `A` and `a` as equal would reject the second of them.
    if let Some(merging) = keys.iter().find(|key| !key.binary) {
        let sql = if merging.made_by_index {
            format!("DROP INDEX {}", quote(&merging.name))
        } else {
            replace_table(table, found)
        };
        return blocked(format!(
            "needs a unique key that compares byte for byte, but has one that does not; to fix it, run: {sql}"
        ));
    }
    if keys.iter().any(|key| key.whole) {
        Ok(())
    } else {
        blocked(format!(
            "needs a unique key that compares byte for byte; to fix it, run: CREATE UNIQUE INDEX {} ON {} ({})",
            quote(&format!("{}_key", table.name)),
            quote(&table.name),
            key_columns(table, " COLLATE BINARY"),
        ))
    }
}

/// Returns whether the view declares a column of this name.
fn is_declared(table: &Table, name: &str) -> bool {
    let own = table.columns.iter().map(|column| &column.name).chain(&table.id);
    own.into_iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// Returns whether `id` is SQLite's rowid: the whole primary key, without a separate index.
fn numbers_rows(
    connection: &Connection,
    table: &Table,
    id: &str,
    found: &[ColumnInfo],
) -> rusqlite::Result<bool> {
    let mut key = found.iter().filter(|column| column.in_key);
    let alone = key.next().is_some_and(|column| column.name.eq_ignore_ascii_case(id)) && key.next().is_none();
    let sql = "SELECT count(*) FROM pragma_index_list(?1) WHERE origin = 'pk'";
    let indexes: i64 = connection.query_row(sql, [&table.name], |row| row.get(0))?;
    Ok(alone && indexes == 0)
}

fn key_columns(table: &Table, each: &str) -> String {
    let names = table.columns[..table.key_columns].iter();
    names.map(|column| quote(&column.name) + each).collect::<Vec<_>>().join(", ")
}

fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<ColumnInfo>> {
    let sql = "SELECT name, type, \"notnull\", dflt_value, pk FROM pragma_table_info(?1)";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([table], |row| {
        let in_key: i64 = row.get(4)?;
        Ok(ColumnInfo {
            name: row.get(0)?,
            kind: row.get(1)?,
            not_null: row.get(2)?,
            default: row.get(3)?,
            in_key: in_key > 0,
        })
    })?;
    rows.collect()
}

/// Returns whether a column with this declared type stores values of `kind` unchanged, by SQLite's affinity rules.
fn stores_exactly(declared: &str, kind: ColumnKind) -> bool {
    let declared = declared.to_ascii_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
    let (integer, text) = (has(&["INT"]), has(&["CHAR", "CLOB", "TEXT"]));
    let no_affinity = declared.is_empty() || has(&["BLOB"]);
    match kind {
        ColumnKind::Text { .. }
        | ColumnKind::LongText
        | ColumnKind::Json
        | ColumnKind::Decimal
        | ColumnKind::Bytes { .. }
        | ColumnKind::LongBytes => !integer && (text || no_affinity),
        // A DATETIME column has numeric affinity, but text that is not a number stays text.
        ColumnKind::Time => !integer && !has(&["REAL", "FLOA", "DOUB"]),
        ColumnKind::Integer | ColumnKind::Boolean => integer || (!text && !has(&["REAL", "FLOA", "DOUB"])),
    }
}

/// Returns the SQL that adds a missing column.
fn add_column(table: &Table, column: &Column) -> String {
    let (table, name) = (quote(&table.name), quote(&column.name));
    format!("ALTER TABLE {table} ADD COLUMN {name} {}", statements::kind(column.kind))
}

/// Returns the SQL that changes the type of a column outside of the key.
fn change_type(table: &Table, existing: &ColumnInfo, column: &Column) -> String {
    let (table, name, old) =
        (quote(&table.name), quote(&existing.name), quote(&format!("{}_before", existing.name)));
    let kind = statements::kind(column.kind);
    let not_null = match (column.null, kind) {
        (true, _) => "",
        (false, "TEXT") if column.kind != ColumnKind::Decimal => " NOT NULL DEFAULT ''",
        (false, _) => " NOT NULL DEFAULT '0'",
    };
    // Other programs may have written rows without a value in this column. The default then replaces NULL.
    let value = if column.null {
        format!("CAST({old} AS {kind})")
    } else {
        format!("coalesce(CAST({old} AS {kind}), {name})")
    };
    format!(
        "ALTER TABLE {table} RENAME COLUMN {name} TO {old}; ALTER TABLE {table} ADD COLUMN {name} {kind}{not_null}; \
         UPDATE {table} SET {name} = {value}; ALTER TABLE {table} DROP COLUMN {old}"
    )
}

/// Returns the SQL that replaces the table, because SQLite cannot alter a key. A new table takes the rows and then
/// the name. The old table stays under another name, and existing SQL views and triggers refer to the new table.
fn replace_table(table: &Table, found: &[ColumnInfo]) -> String {
    let (name, new, before) =
        (quote(&table.name), quote(&format!("{}_new", table.name)), quote(&format!("{}_before", table.name)));
    let mut declared: Vec<String> = statements::id_column(table).into_iter().collect();
    let (mut names, mut values) = (Vec::new(), Vec::new());
    for (index, column) in table.columns.iter().enumerate() {
        // A column that allows NULL keeps allowing it.
        let not_null = found
            .iter()
            .any(|existing| existing.not_null && existing.name.eq_ignore_ascii_case(&column.name));
        let null = index >= table.key_columns && !not_null;
        declared.push(statements::column(&Column { null, ..column.clone() }));
        names.push(quote(&column.name));
        values.push(format!("CAST({} AS {})", quote(&column.name), statements::kind(column.kind)));
    }
    if let Some(id) =
        table.id.iter().find(|id| found.iter().any(|existing| existing.name.eq_ignore_ascii_case(id)))
    {
        names.push(quote(id));
        values.push(quote(id));
    }
    for more in found.iter().filter(|existing| !is_declared(table, &existing.name)) {
        let not_null = if more.not_null { " NOT NULL" } else { "" };
        let default = more.default.as_ref().map(|text| format!(" DEFAULT ({text})")).unwrap_or_default();
        declared.push(format!("{} {}{not_null}{default}", quote(&more.name), more.kind));
        names.push(quote(&more.name));
        values.push(quote(&more.name));
    }
    declared.extend(table.primary_key());
    format!(
        "PRAGMA legacy_alter_table = ON; BEGIN; CREATE TABLE {new} ({}); \
         INSERT INTO {new} ({}) SELECT {} FROM {name}; \
         ALTER TABLE {name} RENAME TO {before}; ALTER TABLE {new} RENAME TO {name}; COMMIT",
        declared.join(", "),
        names.join(", "),
        values.join(", ")
    )
}

/// A unique index on exactly the key columns.
struct Key {
    name: String,
    /// True if `CREATE INDEX` made it, false if it is part of the table.
    made_by_index: bool,
    /// True if it covers all rows.
    whole: bool,
    /// True if it compares byte for byte.
    binary: bool,
}

fn keys(connection: &Connection, table: &Table) -> rusqlite::Result<Vec<Key>> {
    let mut statement = connection
        .prepare("SELECT name, origin = 'c', partial = 0 FROM pragma_index_list(?1) WHERE \"unique\" = 1")?;
    let indexes = statement.query_map([&table.name], |row| {
        Ok(Key { name: row.get(0)?, made_by_index: row.get(1)?, whole: row.get(2)?, binary: true })
    })?;
    let mut wanted: Vec<String> =
        table.columns[..table.key_columns].iter().map(|column| column.name.to_lowercase()).collect();
    wanted.sort();
    let mut keys = Vec::new();
    for key in indexes {
        let key = key?;
        let mut statement =
            connection.prepare("SELECT lower(name), coll FROM pragma_index_xinfo(?1) WHERE key = 1")?;
        let parts: Vec<(Option<String>, String)> = statement
            .query_map([&key.name], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let mut names: Vec<String> = parts.iter().filter_map(|(name, _)| name.clone()).collect();
        names.sort();
        if names == wanted && names.len() == parts.len() {
            keys.push(Key { binary: parts.iter().all(|(_, collation)| collation == "BINARY"), ..key });
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Table {
        let columns = [("who", ColumnKind::Text { chars_max: 255 }), ("sum", ColumnKind::Decimal)];
        Table::new("t", 1, &columns)
    }

    #[test]
    fn the_suggested_sql_fixes_the_table_and_keeps_its_rows() {
        let tables = [
            "CREATE TABLE t (who TEXT COLLATE NOCASE PRIMARY KEY, sum TEXT)",
            "CREATE TABLE t (who TEXT COLLATE NOCASE PRIMARY KEY, sum TEXT); CREATE UNIQUE INDEX u ON t (who COLLATE BINARY)",
            "CREATE TABLE t (who TEXT PRIMARY KEY, sum TEXT); CREATE UNIQUE INDEX u ON t (who COLLATE NOCASE)",
            "CREATE TABLE t (who TEXT, sum TEXT)",
            "CREATE TABLE t (who INTEGER PRIMARY KEY, sum REAL, more TEXT NOT NULL DEFAULT 'it''s')",
            "CREATE TABLE t (who BIGINT UNIQUE, sum INTEGER)",
            "CREATE TABLE t (who TEXT PRIMARY KEY, sum INTEGER)",
        ];
        for sql in tables {
            let connection = Connection::open_in_memory().expect("opens");
            connection.execute_batch(sql).expect("a table");
            connection.execute_batch("CREATE VIEW v AS SELECT who FROM t").expect("a view");
            connection.execute("INSERT INTO t (who, sum) VALUES ('7', '5')", []).expect("a row");
            let mut refusals = 0;
            while let Err(refusal) = check(&connection, &ledger()) {
                let refusal = refusal.to_string();
                refusals += 1;
                assert!(refusals < 3, "{sql}: {refusal}");
                let (_, fix) = refusal.split_once("to fix it, run: ").expect("a suggested fix");
                connection.execute_batch(fix).unwrap_or_else(|error| panic!("{sql}: {fix}: {error}"));
            }
            assert!(refusals > 0, "{sql}");
            connection.execute_batch("INSERT INTO t (who, sum) VALUES ('A', '1'), ('a', '1')").expect(sql);
            let seen: String = connection
                .query_row("SELECT group_concat(who) FROM (SELECT who FROM v ORDER BY who)", [], |row| {
                    row.get(0)
                })
                .expect("the view reads the new table");
            assert_eq!(seen, "7,A,a", "{sql}");
        }
    }

    #[test]
    fn a_table_of_numbered_rows_is_usable_or_fixed_by_the_suggested_sql() {
        let column = |name: &str, kind, null| Column { name: name.to_owned(), kind, null };
        let table = Table::numbered(
            "t",
            "id",
            vec![
                column("what", ColumnKind::LongText, true),
                column("size", ColumnKind::Integer, false),
                column("at", ColumnKind::Time, false),
            ],
        );
        let tables = [
            (0, "CREATE TABLE t (id INTEGER PRIMARY KEY, what VARCHAR(9), size INT, at DATETIME)"),
            (
                0,
                "CREATE TABLE t (at TIMESTAMP NOT NULL, ID integer primary key autoincrement, what, size BIGINT NOT NULL, more TEXT NOT NULL DEFAULT 'x')",
            ),
            (1, "CREATE TABLE t (id INTEGER PRIMARY KEY, what INTEGER, size INT, at TEXT)"),
            (1, "CREATE TABLE t (id INTEGER PRIMARY KEY, what TEXT NOT NULL, size INT, at TEXT)"),
            (1, "CREATE TABLE t (id INTEGER PRIMARY KEY, size INT, at TEXT)"),
            (1, "CREATE TABLE t (id BIGINT PRIMARY KEY, what TEXT, size INT, at TEXT)"),
            (1, "CREATE TABLE t (id INTEGER PRIMARY KEY, what TEXT, size INT, at TEXT) WITHOUT ROWID"),
            (1, "CREATE TABLE t (what TEXT, size INT, at TEXT, more TEXT)"),
            (2, "CREATE TABLE t (id INTEGER PRIMARY KEY, what TEXT, size REAL NOT NULL, at INTEGER)"),
        ];
        for (expected, sql) in tables {
            let connection = Connection::open_in_memory().expect("opens");
            connection.execute_batch(sql).expect("a table");
            let given = if sql.contains("what ") { "what, " } else { "" };
            let value = if given.is_empty() { "" } else { "'7', " };
            let id = if sql.contains("(id ") { ("id, ", "3, ") } else { ("", "") };
            let row =
                format!("INSERT INTO t ({}{given}size, at) VALUES ({}{value}5, '2025-11-01')", id.0, id.1);
            connection.execute(&row, []).expect(sql);
            let mut refusals = 0;
            while let Err(refusal) = check(&connection, &table) {
                let refusal = refusal.to_string();
                refusals += 1;
                assert!(refusals < 4, "{sql}: {refusal}");
                let (_, fix) = refusal.split_once("to fix it, run: ").expect("a suggested fix");
                connection.execute_batch(fix).unwrap_or_else(|error| panic!("{sql}: {fix}: {error}"));
            }
            assert_eq!(refusals, expected, "{sql}");
            let kept: (i64, String) = connection
                .query_row("SELECT size, at FROM t", [], |row| Ok((row.get(0)?, row.get(1)?)))
                .expect("the row is kept");
            assert_eq!(kept, (5, "2025-11-01".to_owned()), "{sql}");
            let insert = statements::numbered(&table, "id", 1, false);
            connection.execute(&insert, (9, rusqlite::types::Null, 1, "2025-11-02 10:00:00")).expect(sql);
        }
    }
}

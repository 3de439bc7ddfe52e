//! Checks whether a view can use an existing table: its columns, types, key and collation. A table that would round
//! an amount or merge two users is refused, with the SQL that repairs all of its faults.

use rusqlite::{Connection, OptionalExtension};

use super::errors::classify;
use super::existing_table::{ColumnInfo, Existing, Key};
use super::repair_sql;
use crate::store::StoreError;
use crate::store::table_fault::TableFault;
use crate::store::tables::{Column, ColumnKind, Table, quote};

/// Returns whether a table or an SQL view of this name exists.
pub fn exists(connection: &Connection, name: &str) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE type IN ('table', 'view') AND name = ?1 COLLATE NOCASE";
    connection.query_row(sql, [name], |_| Ok(())).optional().map(|row| row.is_some()).map_err(classify)
}

/// Returns the SQL of the SQL view of this name.
pub fn sql_view(connection: &Connection, name: &str) -> Result<Option<String>, StoreError> {
    let sql = "SELECT sql FROM sqlite_schema WHERE type = 'view' AND name = ?1 COLLATE NOCASE";
    connection.query_row(sql, [name], |row| row.get(0)).optional().map_err(classify)
}

/// Returns everything because of which the view cannot use the existing table.
pub fn fault(connection: &Connection, table: &Table) -> Result<Option<TableFault>, StoreError> {
    if sql_view(connection, &table.name)?.is_some() {
        return Ok(Some(TableFault::name_taken(&table.name)));
    }
    let found = Existing::read(connection, table).map_err(classify)?;
    let mut faults = Faults::default();
    for (index, column) in table.columns.iter().enumerate() {
        column_faults(&mut faults, column, found.column(&column.name), index < table.key_columns);
    }
    for more in &found.columns {
        if more.not_null && more.default.is_none() && !more.in_key && !is_declared(table, &more.name) {
            let name = &more.name;
            faults.note(format!("has a column `{name}` that is NOT NULL and has no default"));
            faults.replace = true;
        }
    }
    match &table.id {
        Some(id) if !found.numbers_rows(id) => {
            faults.note(format!("needs a column `{id}` that is its INTEGER PRIMARY KEY"));
            faults.replace = true;
        }
        Some(_) => {}
        None => key_faults(&mut faults, &found.keys),
    }
    Ok(faults.of(table, &found))
}

/// The faults of a table, and what repairs them.
#[derive(Default)]
struct Faults<'t> {
    problems: Vec<String>,
    added: Vec<&'t Column>,
    dropped_indexes: Vec<String>,
    needs_key: bool,
    /// True if only a new table helps: SQLite cannot alter a column or a key.
    replace: bool,
}

impl Faults<'_> {
    fn note(&mut self, problem: String) {
        self.problems.push(problem);
    }

    fn of(self, table: &Table, found: &Existing) -> Option<TableFault> {
        if self.problems.is_empty() {
            return None;
        }
        let repair = if self.replace {
            repair_sql::replace_table(table, found, &self.dropped_indexes)
        } else {
            let added = self.added.iter().map(|column| repair_sql::add_column(table, column));
            let dropped = self.dropped_indexes.iter().map(|name| format!("DROP INDEX {}", quote(name)));
            let key = self.needs_key.then(|| repair_sql::add_key(table));
            added.chain(dropped).chain(key).collect()
        };
        Some(TableFault { table: table.name.clone(), problems: self.problems, repair })
    }
}

fn column_faults<'t>(faults: &mut Faults<'t>, column: &'t Column, found: Option<&ColumnInfo>, in_key: bool) {
    let Some(existing) = found else {
        faults.note(format!("has no column `{}`", column.name));
        faults.added.push(column);
        return;
    };
    let name = &existing.name;
    if !stores_exactly(&existing.kind, column.kind) {
        let kind = &existing.kind;
        faults
            .note(format!("has a column `{name}` of type {kind}, which does not store every value exactly"));
        faults.replace = true;
    }
    if column.null && existing.not_null && !in_key {
        faults
            .note(format!("has a column `{name}` that is NOT NULL, but not every event has a value for it"));
        faults.replace = true;
    }
}

/// Notes that the table has no unique key over the view's key columns that compares byte for byte. Even next to such a
/// key, another one that treats `A` and `a` as equal would reject the second of them.
fn key_faults(faults: &mut Faults<'_>, keys: &[Key]) {
    let merging: Vec<&Key> = keys.iter().filter(|key| !key.binary).collect();
    for key in &merging {
        if key.made_by_index {
            faults.dropped_indexes.push(key.name.clone());
        } else {
            faults.replace = true;
        }
    }
    faults.needs_key = !keys.iter().any(|key| key.whole && key.binary);
    if !merging.is_empty() {
        faults.note("needs a unique key that compares byte for byte, but has one that does not".to_owned());
    } else if faults.needs_key {
        faults.note("needs a unique key that compares byte for byte".to_owned());
    }
}

/// Returns whether the view declares a column of this name.
pub fn is_declared(table: &Table, name: &str) -> bool {
    let own = table.columns.iter().map(|column| &column.name).chain(&table.id);
    own.into_iter().any(|own| own.eq_ignore_ascii_case(name))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::statements;

    fn ledger() -> Table {
        let columns = [("who", ColumnKind::Text { chars_max: 255 }), ("sum", ColumnKind::Decimal)];
        Table::new("t", 1, &columns)
    }

    /// Repairs a table once, and returns whether it had faults. The SQL of one fault has to repair everything.
    fn repaired(connection: &Connection, table: &Table) -> bool {
        let Some(found) = fault(connection, table).expect("checked") else { return false };
        let repair = found.repair.join("; ");
        connection.execute_batch(&repair).unwrap_or_else(|error| panic!("{repair}: {error}"));
        assert_eq!(fault(connection, table), Ok(None), "after {repair}");
        true
    }

    #[test]
    fn a_table_with_many_faults_is_repaired_by_one_run_of_the_suggested_sql() {
        let column = |name: &str, kind, null| Column { name: name.to_owned(), kind, null };
        let mut table = ledger();
        table.columns.extend([
            column("note", ColumnKind::LongText, true),
            column("n", ColumnKind::Integer, true),
            column("missing", ColumnKind::LongText, true),
        ]);
        let connection = Connection::open_in_memory().expect("opens");
        let made = "CREATE TABLE t (who BIGINT PRIMARY KEY, sum REAL, note INT NOT NULL, n TEXT, must TEXT NOT NULL CHECK (must <> ''));
            CREATE UNIQUE INDEX merging ON t (who COLLATE NOCASE);
            CREATE INDEX kept ON t (must);
            CREATE TABLE trace (who);
            CREATE TRIGGER kept_too AFTER INSERT ON t BEGIN INSERT INTO trace VALUES (new.who); END;
            INSERT INTO t VALUES (7, 1.5, 3, '4', 'x')";
        connection.execute_batch(made).expect("a table");
        let found = fault(&connection, &table).expect("checked").expect("faults");
        assert_eq!(found.problems.len(), 8, "{found}");
        assert!(repaired(&connection, &table));
        connection.execute_batch("INSERT INTO t (who, sum) VALUES ('A', '1'), ('a', '2')").expect("two keys");
        let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a number");
        assert_eq!(
            count("SELECT count(*) FROM t WHERE who = '7' AND sum = '1.5' AND note = '3' AND n = 4"),
            1
        );
        assert_eq!(count("SELECT count(*) FROM trace WHERE who IN ('A', 'a')"), 2, "the trigger is kept");
        assert_eq!(count("SELECT count(*) FROM pragma_index_list('t') WHERE name = 'kept'"), 1);
    }

    #[test]
    fn an_sql_view_with_the_name_of_a_table_is_a_fault() {
        let connection = Connection::open_in_memory().expect("opens");
        connection.execute_batch("CREATE VIEW t AS SELECT 1 AS who, 2 AS sum").expect("a view");
        assert_eq!(fault(&connection, &ledger()), Ok(Some(TableFault::name_taken("t"))));
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
            assert!(repaired(&connection, &ledger()), "{sql}");
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
            (false, "CREATE TABLE t (id INTEGER PRIMARY KEY, what VARCHAR(9), size INT, at DATETIME)"),
            (
                false,
                "CREATE TABLE t (at TIMESTAMP NOT NULL, ID integer primary key autoincrement, what, size BIGINT NOT NULL, more TEXT NOT NULL DEFAULT 'x')",
            ),
            (true, "CREATE TABLE t (id INTEGER PRIMARY KEY, what INTEGER, size INT, at TEXT)"),
            (true, "CREATE TABLE t (id INTEGER PRIMARY KEY, what TEXT NOT NULL, size INT, at TEXT)"),
            (true, "CREATE TABLE t (id INTEGER PRIMARY KEY, size INT, at TEXT)"),
            (true, "CREATE TABLE t (id BIGINT PRIMARY KEY, what TEXT, size INT, at TEXT)"),
            (true, "CREATE TABLE t (id INTEGER PRIMARY KEY, what TEXT, size INT, at TEXT) WITHOUT ROWID"),
            (true, "CREATE TABLE t (what TEXT, size INT, at TEXT, more TEXT)"),
            (true, "CREATE TABLE t (id INTEGER PRIMARY KEY, what TEXT, size REAL NOT NULL, at INTEGER)"),
            (true, "CREATE TABLE t (size REAL NOT NULL, at INTEGER, more TEXT, extra INT)"),
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
            assert_eq!(repaired(&connection, &table), expected, "{sql}");
            let kept: (i64, String) = connection
                .query_row("SELECT size, at FROM t", [], |row| Ok((row.get(0)?, row.get(1)?)))
                .expect("the row is kept");
            assert_eq!(kept, (5, "2025-11-01".to_owned()), "{sql}");
            let insert = statements::numbered(&table, "id", 1, false);
            connection.execute(&insert, (9, rusqlite::types::Null, 1, "2025-11-02 10:00:00")).expect(sql);
        }
    }
}

//! Tables with one row per event, in SQLite. This module numbers the rows instead of the database: consecutively, and
//! above every number that was ever used. So the event of each row is known, and no recorded number is used again for
//! another row.

use std::fmt::Write;

use event::limits::ROWS_PER_STATEMENT_MAX;
use rusqlite::{Connection, OptionalExtension, Statement};

use super::errors::classify;
use super::{shape, statements};
use crate::store::StoreError;
use crate::store::cell::{Cell, CellRef};
use crate::store::numbered_rows::{Rows, RowsOf};
use crate::store::tables::{Table, quote};

/// Inserts rows, and returns their numbers.
pub fn insert(connection: &Connection, of: &RowsOf, rows: &Rows) -> Result<Vec<i64>, StoreError> {
    let first = next_number(connection, of)?;
    let mut next = first..;
    write(connection, &of.table, rows, || next.next().unwrap_or(i64::MAX), false)?;
    Ok((first..).take(rows.len()).collect())
}

/// Writes rows under the given numbers.
pub fn restore(
    connection: &Connection,
    table: &Table,
    numbers: &[i64],
    rows: &Rows,
) -> Result<(), StoreError> {
    let mut numbers = numbers.iter().copied();
    write(connection, table, rows, || numbers.next().unwrap_or_default(), true)
}

/// Returns a number above those in the table, those that the database assigned before, and those in `millrace_rows`.
fn next_number(connection: &Connection, of: &RowsOf) -> Result<i64, StoreError> {
    let (table, id) = (&of.table.name, of.table.number_column());
    let one = |sql: &str, parameter: Option<&str>| -> Result<i64, StoreError> {
        let mut statement = connection.prepare_cached(sql).map_err(classify)?;
        let read = |row: &rusqlite::Row<'_>| row.get::<_, Option<i64>>(0);
        let found = statement.query_row(rusqlite::params_from_iter(parameter), read);
        found.optional().map(|found| found.flatten().unwrap_or(0)).map_err(classify)
    };
    let in_table = one(&format!("SELECT max({}) FROM {}", quote(id), quote(table)), None)?;
    let recorded = one(
        "SELECT last_row FROM millrace_rows WHERE view = ?1 ORDER BY last_row DESC LIMIT 1",
        Some(&of.view),
    )?;
    let assigned = if shape::exists(connection, "sqlite_sequence")? {
        one("SELECT seq FROM sqlite_sequence WHERE name = ?1 COLLATE NOCASE", Some(table))?
    } else {
        0
    };
    let last = in_table.max(recorded).max(assigned).max(0);
    match last.checked_add(i64::from(u32::MAX)) {
        Some(_) => Ok(last + 1),
        None => Err(StoreError::Blocked(format!("table `{table}` has no numbers left in column `{id}`"))),
    }
}

/// Writes rows, several per statement. This takes a third less time than one row per statement, and SQLite updates
/// its row numbering once for all of them.
fn write(
    connection: &Connection,
    table: &Table,
    rows: &Rows,
    mut number: impl FnMut() -> i64,
    update_existing: bool,
) -> Result<(), StoreError> {
    let mut cells = rows.cells();
    let mut left = rows.len();
    let mut buffer = String::with_capacity(64);
    for count in [ROWS_PER_STATEMENT_MAX, 1] {
        if left < count {
            continue;
        }
        let sql = statements::numbered(table, table.number_column(), count, update_existing);
        let mut statement = connection.prepare_cached(&sql).map_err(classify)?;
        while left >= count {
            let mut at = 1;
            for _ in 0..count {
                statement.raw_bind_parameter(at, number()).map_err(classify)?;
                at += 1;
                for _ in &table.columns {
                    let cell = cells.next().unwrap_or(CellRef::Null);
                    bind(&mut statement, at, cell, &mut buffer).map_err(classify)?;
                    at += 1;
                }
            }
            let written = statement.raw_execute().map_err(classify)?;
            if written != count {
                return Err(StoreError::Blocked(format!(
                    "table `{}` accepted {written} of {count} rows; remove the trigger that rejects the others",
                    table.name
                )));
            }
            left -= count;
        }
    }
    Ok(())
}

fn bind(
    statement: &mut Statement<'_>,
    at: usize,
    cell: CellRef<'_>,
    buffer: &mut String,
) -> rusqlite::Result<()> {
    buffer.clear();
    match cell {
        CellRef::Null => return statement.raw_bind_parameter(at, rusqlite::types::Null),
        CellRef::Text(text) => return statement.raw_bind_parameter(at, text),
        CellRef::Integer(number) => return statement.raw_bind_parameter(at, number),
        CellRef::Bytes(bytes) => return statement.raw_bind_parameter(at, bytes),
        CellRef::Decimal(amount) => drop(write!(buffer, "{amount}")),
        CellRef::Time(time) => time.put_civil(buffer),
    }
    statement.raw_bind_parameter(at, buffer.as_str())
}

/// Returns a cell in the form in which SQLite stores it: amounts and times are text.
pub fn stored(cell: CellRef<'_>) -> Cell {
    match cell {
        CellRef::Decimal(amount) => Cell::Text(amount.to_string()),
        CellRef::Time(time) => {
            let mut text = String::new();
            time.put_civil(&mut text);
            Cell::Text(text)
        }
        cell => cell.to_cell(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use event::{LogId, Millis, Value};

    use super::*;
    use crate::store::millrace_tables::own_tables;
    use crate::store::numbered_rows::{RowChanges, RowsToDelete};
    use crate::store::plan::{Claim, Plan};
    use crate::store::rules;
    use crate::store::sqlite::session::{SqliteSession, run};

    use crate::store::tables::{Column, ColumnKind};

    const LOG: LogId = LogId([7; 16]);

    fn table() -> Arc<Table> {
        let text = Column { name: "what".to_owned(), kind: ColumnKind::LongText, null: true };
        Arc::new(Table::numbered("t", "id", vec![text]))
    }

    /// Opens a database in which `sql` has created the user's own table.
    fn opened(sql: &str) -> Connection {
        let connection = Connection::open_in_memory().expect("opens");
        for table in own_tables() {
            connection.execute_batch(&statements::create_table(&table, true)).expect("a table");
        }
        connection.execute_batch(sql).expect("a table");
        connection
    }

    fn claim() -> Claim {
        Claim { view: "v".to_owned(), log: LOG, from: 0, to: 0, definition: None }
    }

    /// Adds a row for each position `n`, received at second `n`.
    fn add(connection: &Connection, positions: &[u64]) -> Result<(), StoreError> {
        let mut changes = RowChanges::new(&table());
        for position in positions {
            changes.added.push(&Value::Text(format!("event {position}").into()));
            changes.from.push((*position, Millis(*position as i64 * 1_000)));
        }
        apply(connection, changes)
    }

    /// Applies a plan that adds rows, without moving the position.
    fn apply(connection: &Connection, changes: RowChanges) -> Result<(), StoreError> {
        let sql =
            "INSERT OR IGNORE INTO millrace_positions (view, log_id, part, position) VALUES ('v', ?1, 0, 0)";
        connection.execute(sql, [LOG.0]).expect("a position");
        let mut plan = Plan::new(claim());
        plan.rows = Some(changes);
        run(rules::apply(&mut SqliteSession { connection }, &plan)).map(drop)
    }

    fn delete_rows(
        connection: &Connection,
        of: &RowsOf,
        to_delete: &RowsToDelete,
    ) -> Result<usize, StoreError> {
        run(rules::delete_rows(&mut SqliteSession { connection }, of, to_delete))
    }

    fn of() -> RowsOf {
        RowsOf { view: "v".to_owned(), log: LOG, table: table() }
    }

    fn rows(connection: &Connection) -> Vec<String> {
        let mut statement =
            connection.prepare("SELECT id || ' ' || what FROM t ORDER BY id").expect("a table");
        let rows = statement.query_map([], |row| row.get(0)).expect("rows");
        rows.collect::<rusqlite::Result<_>>().expect("rows")
    }

    #[test]
    fn rows_are_deleted_by_event_and_by_age_and_foreign_rows_stay() {
        for made in [
            statements::create_table(&table(), false),
            "CREATE TABLE t (id INTEGER PRIMARY KEY, what TEXT)".to_owned(),
        ] {
            let connection = opened(&made);
            connection.execute("INSERT INTO t VALUES (5, 'mine')", []).expect("a row");
            add(&connection, &[0, 2, 3]).expect("added");
            connection.execute("INSERT INTO t VALUES (20, 'mine')", []).expect("a row");
            add(&connection, &Vec::from_iter(10..60)).expect("added");
            assert_eq!(rows(&connection).len(), 55);
            let removed = delete_rows(&connection, &of(), &RowsToDelete::Positions(vec![11, 3, 1, 99, 10]));
            assert_eq!(removed, Ok(3));
            assert_eq!(
                rows(&connection)[..5],
                ["5 mine", "6 event 0", "7 event 2", "20 mine", "23 event 12"]
            );
            // By age, a few rows at a time.
            let old = |rows_max| RowsToDelete::Below { position: 15, rows_max };
            let deleted: Vec<usize> =
                (0..4).map(|_| delete_rows(&connection, &of(), &old(2)).expect("deleted")).collect();
            assert_eq!(deleted, [2, 2, 1, 0]);
            assert_eq!(rows(&connection)[..3], ["5 mine", "20 mine", "26 event 15"]);
            // The number of a deleted row is not used again while the row's origin is stored.
            connection.execute("DELETE FROM t WHERE id > 20", []).expect("deleted");
            add(&connection, &[60]).expect("added");
            assert_eq!(rows(&connection)[2..], ["71 event 60"]);
        }
    }

    #[test]
    fn small_plans_share_an_entry_and_large_ones_do_not() {
        let connection = opened(&statements::create_table(&table(), false));
        let entries = || -> i64 {
            connection.query_row("SELECT count(*) FROM millrace_rows", [], |row| row.get(0)).expect("a row")
        };
        for position in 0..300 {
            add(&connection, &[position]).expect("added");
        }
        assert!(entries() < 5, "{}", entries());
        let before = entries();
        add(&connection, &Vec::from_iter(300..1_300)).expect("added");
        add(&connection, &Vec::from_iter(1_300..2_300)).expect("added");
        assert_eq!(entries(), before + 2);
        let all = RowsToDelete::Positions(Vec::from_iter(0..2_300));
        assert_eq!(delete_rows(&connection, &of(), &all), Ok(2_300));
        assert_eq!((entries(), rows(&connection).len()), (0, 0));
    }

    #[test]
    fn origins_added_late_are_sorted_into_existing_entries() {
        let connection = opened(&statements::create_table(&table(), false));
        add(&connection, &[0, 4, 8]).expect("added");
        add(&connection, &[9]).expect("added");
        add(&connection, &[2, 9]).expect("added");
        let entries: i64 =
            connection.query_row("SELECT count(*) FROM millrace_rows", [], |row| row.get(0)).expect("a row");
        assert_eq!(entries, 1);
        assert_eq!(delete_rows(&connection, &of(), &RowsToDelete::Positions(vec![2, 8, 9])), Ok(3));
        assert_eq!(rows(&connection), ["1 event 0", "2 event 4", "4 event 9"]);
    }

    #[test]
    fn a_trigger_that_rejects_rows_blocks_the_view() {
        let connection = opened(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, what TEXT);
             CREATE TRIGGER odd BEFORE INSERT ON t WHEN NEW.what = 'event 3' BEGIN SELECT RAISE(IGNORE); END",
        );
        assert_eq!(add(&connection, &[1, 2]), Ok(()));
        let refused = add(&connection, &[3]);
        assert!(
            matches!(&refused, Err(StoreError::Blocked(reason)) if reason.contains("trigger")),
            "{refused:?}"
        );
    }
}

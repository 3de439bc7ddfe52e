//! Counting in SQLite: each row has one number, and a write has its rows sorted by key. A row whose count becomes 0
//! is deleted. The table's ranking is updated too.

use std::cell::Cell as StdCell;

use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, Error, params_from_iter};

use super::statements::{self, ADD_NOTED};
use super::top_k::Boards;
use crate::store::cell::Cell;
use crate::store::tables::Table;

thread_local! {
    /// The number that the last statement found in its row. SQLite calls functions on the calling thread. `RETURNING`
    /// would return the number too, but creates a table in memory for every row.
    static FOUND: StdCell<i64> = const { StdCell::new(0) };
}

/// Registers an SQL function that adds two numbers and records the first one in `FOUND`.
pub fn install(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function(ADD_NOTED, 2, flags, |context| {
        let (found, change) = (context.get::<i64>(0)?, context.get::<i64>(1)?);
        FOUND.set(found);
        found.checked_add(change).ok_or_else(|| Error::UserFunctionError("a count is out of range".into()))
    })
}

/// Adds the last column of each row to the table's numbers, and updates the table's ranking.
pub fn tally(connection: &Connection, table: &Table, cells: &[Cell]) -> rusqlite::Result<()> {
    let mut counts = Counts::of(connection, table)?;
    let mut boards = table.ranking.as_ref().map(|ranking| Boards::new(connection, table, ranking));
    for row in cells.chunks_exact(table.columns.len()) {
        let (was, now) = counts.add(row)?;
        if let Some(boards) = &mut boards {
            boards.update(&row[..table.key_columns], was, now)?;
        }
    }
    boards.map_or(Ok(()), Boards::finish)
}

/// Does the same in a table without a ranking, and returns each row's number before.
pub fn tally_before(connection: &Connection, table: &Table, cells: &[Cell]) -> rusqlite::Result<Vec<i64>> {
    let mut counts = Counts::of(connection, table)?;
    cells.chunks_exact(table.columns.len()).map(|row| counts.add(row).map(|(was, _)| was)).collect()
}

/// Adds to the counts in a table whose last column is a number.
struct Counts<'c> {
    add: rusqlite::CachedStatement<'c>,
    delete: rusqlite::CachedStatement<'c>,
}

impl<'c> Counts<'c> {
    fn of(connection: &'c Connection, table: &Table) -> rusqlite::Result<Self> {
        let add = connection.prepare_cached(&statements::tally(table))?;
        let delete = connection.prepare_cached(&statements::delete(table))?;
        Ok(Self { add, delete })
    }

    /// Adds to a row's number and returns the number before and after. 0 stands for a missing row.
    fn add(&mut self, row: &[Cell]) -> rusqlite::Result<(i64, i64)> {
        FOUND.set(0);
        self.add.execute(params_from_iter(row))?;
        let was = FOUND.get();
        let added = row.last().and_then(Cell::integer).expect("the last cell of a count is a number");
        let now = was + added;
        if now == 0 {
            self.delete.execute(params_from_iter(&row[..row.len() - 1]))?;
        }
        Ok((was, now))
    }
}

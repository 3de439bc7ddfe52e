//! Counting in SQLite: one number a row, rows sorted by key; what comes to 0 goes, and a ranking follows.

use std::cell::Cell as Noted;

use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, Error, params_from_iter};

use super::statements::{self, ADD_NOTED};
use super::top_k::Boards;
use crate::store::plan::Write;
use crate::store::tables::{Cell, DerivedIndex, Table};

thread_local! {
    /// The number that the last statement found in its row: SQLite calls functions on the thread that asks.
    /// `RETURNING` would tell as well, and makes a table in memory for every row.
    static FOUND: Noted<i64> = const { Noted::new(0) };
}

/// Adds two numbers, and notes the first.
pub fn install(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function(ADD_NOTED, 2, flags, |context| {
        let (found, change) = (context.get::<i64>(0)?, context.get::<i64>(1)?);
        FOUND.set(found);
        found.checked_add(change).ok_or_else(|| Error::UserFunctionError("a count is out of range".into()))
    })
}

pub fn carry_out(connection: &Connection, write: &Write) -> rusqlite::Result<()> {
    let table = write.table.as_ref();
    let mut counts = Counts::of(connection, table)?;
    let mut boards = match &table.derived_index {
        DerivedIndex::TopK(ranking) => Some(Boards::new(connection, table, ranking)),
        DerivedIndex::Nothing | DerivedIndex::DayGaps(_) => None,
    };
    for row in write.rows() {
        let (was, now) = counts.add(row)?;
        if let Some(boards) = &mut boards {
            boards.follow(&row[..table.key_columns], was, now)?;
        }
    }
    boards.map_or(Ok(()), Boards::finish)
}

/// The rows of a table whose last column is a number.
pub struct Counts<'c> {
    add: rusqlite::CachedStatement<'c>,
    delete: rusqlite::CachedStatement<'c>,
}

impl<'c> Counts<'c> {
    pub fn of(connection: &'c Connection, table: &Table) -> rusqlite::Result<Self> {
        let add = connection.prepare_cached(&statements::tally(table))?;
        let delete = connection.prepare_cached(&statements::delete(table))?;
        Ok(Self { add, delete })
    }

    /// What the row's number was before, and what it is now; 0 is no row.
    pub fn add(&mut self, row: &[Cell]) -> rusqlite::Result<(i64, i64)> {
        FOUND.set(0);
        self.add.execute(params_from_iter(row))?;
        let was = FOUND.get();
        let now = was + number(row);
        if now == 0 {
            self.delete.execute(params_from_iter(&row[..row.len() - 1]))?;
        }
        Ok((was, now))
    }
}

fn number(row: &[Cell]) -> i64 {
    match row.last() {
        Some(Cell::Integer(number)) => *number,
        other => panic!("a row to count ends in a number, not in {other:?}"),
    }
}

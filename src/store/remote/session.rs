//! One connection to a database server, and the operations that each database implements in its own way: statements,
//! writes of rows, table definitions. The files beside this one contain what is the same for both.

use super::statement_timeout::StatementTimeout;
use crate::store::numbered_rows::Rows;
use crate::store::tables::{Cell, Table};
use crate::store::{StoreError, mysql, postgres};

/// SQL passed to these methods must be valid in both databases: `?` for a parameter, `"` around names, no dialect.
pub enum Session {
    Postgres(Box<postgres::Session>),
    Mysql(Box<mysql::Session>),
}

/// The purpose of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Writes; each statement sees what others have committed.
    Writing,
    /// Reads several times from one snapshot.
    Reading,
}

macro_rules! either {
    ($self:ident, $session:ident => $call:expr) => {
        match $self {
            Session::Postgres($session) => $call,
            Session::Mysql($session) => $call,
        }
    };
}

impl Session {
    /// Returns the limit on the time that the session waits for an answer.
    pub fn statement_timeout(&mut self) -> &mut StatementTimeout {
        either!(self, session => &mut session.statement_timeout)
    }

    pub async fn begin(&mut self, begin: Begin) -> Result<(), StoreError> {
        either!(self, session => session.begin(begin).await)
    }

    /// Commits. Returns `Ok` only if the server confirms the commit.
    pub async fn commit(&mut self) -> Result<(), StoreError> {
        either!(self, session => session.commit().await)
    }

    /// Rolls back. If this fails, the session must not be used again.
    pub async fn rollback(&mut self) -> Result<(), StoreError> {
        either!(self, session => session.rollback().await)
    }

    pub async fn rows(&mut self, sql: &str, parameters: &[Cell]) -> Result<Vec<Vec<Cell>>, StoreError> {
        either!(self, session => session.rows(sql, parameters).await)
    }

    /// Executes a statement and returns how many rows it matched, changed or not.
    pub async fn change(&mut self, sql: &str, parameters: &[Cell]) -> Result<u64, StoreError> {
        either!(self, session => session.change(sql, parameters).await)
    }

    /// Takes a named lock. Other sessions that ask for it wait until it is released or this session ends.
    pub async fn lock(&mut self, name: &str) -> Result<(), StoreError> {
        either!(self, session => session.lock(name).await)
    }

    pub async fn unlock(&mut self, name: &str) -> Result<(), StoreError> {
        either!(self, session => session.unlock(name).await)
    }

    /// Inserts rows, laid end to end, no two with the same key. Adds the columns beyond the key to an existing row.
    pub async fn add(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError> {
        either!(self, session => session.add(table, cells).await)
    }

    /// Inserts rows, and leaves a row alone that exists by its key or its unique column.
    pub async fn insert_new(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError> {
        either!(self, session => session.insert_new(table, cells).await)
    }

    /// Returns how large a row can be, in bytes; the rest of its statement is taken into account.
    pub fn row_bytes_max(&self) -> usize {
        match self {
            Self::Postgres(_) => usize::MAX,
            Self::Mysql(session) => session.row_bytes_max(),
        }
    }

    /// Inserts rows, and replaces rows with the same key.
    pub async fn put(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError> {
        either!(self, session => session.put(table, cells).await)
    }

    /// Deletes the rows that are equal to the given ones in all columns.
    pub async fn remove(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError> {
        either!(self, session => session.remove(table, cells).await)
    }

    /// Returns the rows with these keys, in any order; keys are laid end to end.
    pub async fn rows_by_key(&mut self, table: &Table, keys: &[Cell]) -> Result<Vec<Vec<Cell>>, StoreError> {
        either!(self, session => session.rows_by_key(table, keys).await)
    }

    /// Returns the next smaller and the next larger number for each key. The last column of the key is a number, and
    /// the other columns must be equal. The result is in the order of the keys.
    pub async fn neighbours(
        &mut self,
        table: &Table,
        keys: &[Cell],
    ) -> Result<Vec<(Option<i64>, Option<i64>)>, StoreError> {
        either!(self, session => session.neighbours(table, keys).await)
    }

    /// Inserts rows into a table that numbers them, and returns their numbers in the order of the rows.
    pub async fn insert_numbered(&mut self, table: &Table, rows: &Rows) -> Result<Vec<i64>, StoreError> {
        either!(self, session => session.insert_numbered(table, rows).await)
    }

    /// Writes rows under the given numbers, whether a row with that number exists or not.
    pub async fn restore_numbered(
        &mut self,
        table: &Table,
        numbers: &[i64],
        rows: &Rows,
    ) -> Result<(), StoreError> {
        either!(self, session => session.restore_numbered(table, numbers, rows).await)
    }

    /// Deletes rows by their numbers, and ignores numbers without a row.
    pub async fn delete_numbers(&mut self, table: &Table, numbers: &[i64]) -> Result<(), StoreError> {
        either!(self, session => session.delete_numbers(table, numbers).await)
    }

    pub async fn exists(&mut self, table: &str) -> Result<bool, StoreError> {
        either!(self, session => session.exists(table).await)
    }

    /// Fails with `Blocked` if the existing table does not fit `table`; the message contains the SQL that repairs it.
    pub async fn check(&mut self, table: &Table) -> Result<(), StoreError> {
        either!(self, session => session.check(table).await)
    }

    /// Creates a table and the index of its ranking unless they exist. Must not be called within a transaction.
    pub async fn create(&mut self, table: &Table) -> Result<(), StoreError> {
        either!(self, session => session.create(table).await)
    }

    /// Creates an index unless it exists.
    pub async fn index(&mut self, name: &str, table: &str, columns: &[&str]) -> Result<(), StoreError> {
        either!(self, session => session.index(name, table, columns).await)
    }

    /// Adds the columns that one of millrace's own tables does not have yet.
    pub async fn add_missing_columns(&mut self, table: &Table) -> Result<(), StoreError> {
        either!(self, session => session.add_missing_columns(table).await)
    }

    pub async fn drop_tables(&mut self, tables: &[Table]) -> Result<(), StoreError> {
        either!(self, session => session.drop_tables(tables).await)
    }

    /// Replaces each table of `wanted` by the one of `made`, all of them or none.
    pub async fn replace_tables(&mut self, made: &[Table], wanted: &[Table]) -> Result<(), StoreError> {
        either!(self, session => session.replace_tables(made, wanted).await)
    }
}

//! One connection to a database server, and what each database does its own way: statements, the verbs over
//! rows, the shape of tables. All that is the same for both stands beside this file.

use super::statement_timeout::Patience;
use crate::store::numbered_rows::Rows;
use crate::store::tables::{Cell, Table};
use crate::store::{StoreError, mysql, postgres};

/// SQL here is what both understand: `?` for a parameter, `"` around names, no word of one database alone.
pub enum Session {
    Postgres(Box<postgres::Session>),
    Mysql(Box<mysql::Session>),
}

/// How a transaction is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// To write, seeing what others have committed.
    Writing,
    /// To read several times as of one moment.
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
    /// How long it waits for an answer.
    pub fn patience(&mut self) -> &mut Patience {
        either!(self, session => &mut session.patience)
    }

    pub async fn begin(&mut self, begin: Begin) -> Result<(), StoreError> {
        either!(self, session => session.begin(begin).await)
    }

    /// `Ok` only where the server says that it committed.
    pub async fn commit(&mut self) -> Result<(), StoreError> {
        either!(self, session => session.commit().await)
    }

    /// After an error the session is not to be used again.
    pub async fn rollback(&mut self) -> Result<(), StoreError> {
        either!(self, session => session.rollback().await)
    }

    pub async fn rows(&mut self, sql: &str, parameters: &[Cell]) -> Result<Vec<Vec<Cell>>, StoreError> {
        either!(self, session => session.rows(sql, parameters).await)
    }

    /// How many rows it met, whether they were changed by it or not.
    pub async fn change(&mut self, sql: &str, parameters: &[Cell]) -> Result<u64, StoreError> {
        either!(self, session => session.change(sql, parameters).await)
    }

    /// Keeps other sessions that ask for the same from going on, until it is let go or this session ends.
    pub async fn lock(&mut self, name: &str) -> Result<(), StoreError> {
        either!(self, session => session.lock(name).await)
    }

    pub async fn unlock(&mut self, name: &str) -> Result<(), StoreError> {
        either!(self, session => session.unlock(name).await)
    }

    /// Rows, laid end to end, none with the key of another: columns beyond the key are added to what is there.
    pub async fn add(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError> {
        either!(self, session => session.add(table, cells).await)
    }

    /// What is there by its key, or by its unique column, is left as it is.
    pub async fn insert_new(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError> {
        either!(self, session => session.insert_new(table, cells).await)
    }

    /// How large a row may be, in bytes, with what a statement holds beside it.
    pub fn row_bytes_max(&self) -> usize {
        match self {
            Self::Postgres(_) => usize::MAX,
            Self::Mysql(session) => session.row_bytes_max(),
        }
    }

    /// What is there by its key is replaced.
    pub async fn put(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError> {
        either!(self, session => session.put(table, cells).await)
    }

    /// Rows that hold just this in all their columns go.
    pub async fn remove(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError> {
        either!(self, session => session.remove(table, cells).await)
    }

    /// The rows that have these keys, in any order; keys are laid end to end.
    pub async fn found(&mut self, table: &Table, keys: &[Cell]) -> Result<Vec<Vec<Cell>>, StoreError> {
        either!(self, session => session.found(table, keys).await)
    }

    /// For each of these keys, whose last column is a number: the next smaller and the next larger number
    /// that a row of the same other columns has. As many answers as keys, in their order.
    pub async fn neighbours(
        &mut self,
        table: &Table,
        keys: &[Cell],
    ) -> Result<Vec<(Option<i64>, Option<i64>)>, StoreError> {
        either!(self, session => session.neighbours(table, keys).await)
    }

    /// Inserts rows into a table that numbers them; their numbers, in the order of the rows.
    pub async fn number(&mut self, table: &Table, rows: &Rows) -> Result<Vec<i64>, StoreError> {
        either!(self, session => session.number(table, rows).await)
    }

    /// Puts rows under their numbers, whether something is there or not.
    pub async fn mend(&mut self, table: &Table, numbers: &[i64], rows: &Rows) -> Result<(), StoreError> {
        either!(self, session => session.mend(table, numbers, rows).await)
    }

    /// Deletes rows by their numbers; those that are gone already are not missed.
    pub async fn delete_numbers(&mut self, table: &Table, numbers: &[i64]) -> Result<(), StoreError> {
        either!(self, session => session.delete_numbers(table, numbers).await)
    }

    pub async fn exists(&mut self, table: &str) -> Result<bool, StoreError> {
        either!(self, session => session.exists(table).await)
    }

    /// Whether a table that is there can carry what `table` declares; `Blocked` names the SQL that mends it.
    pub async fn check(&mut self, table: &Table) -> Result<(), StoreError> {
        either!(self, session => session.check(table).await)
    }

    /// Makes a table unless it is there, with the index of its ranking. Never within a transaction.
    pub async fn create(&mut self, table: &Table) -> Result<(), StoreError> {
        either!(self, session => session.create(table).await)
    }

    /// Makes an index unless it is there.
    pub async fn index(&mut self, name: &str, table: &str, columns: &[&str]) -> Result<(), StoreError> {
        either!(self, session => session.index(name, table, columns).await)
    }

    /// Adds columns to a table of ours, those that it does not have.
    pub async fn widen(&mut self, table: &Table) -> Result<(), StoreError> {
        either!(self, session => session.widen(table).await)
    }

    pub async fn drop_tables(&mut self, tables: &[Table]) -> Result<(), StoreError> {
        either!(self, session => session.drop_tables(tables).await)
    }

    /// Puts each table of `made` in the place of the one of `wanted`, all of them or none.
    pub async fn put_in_place(&mut self, made: &[Table], wanted: &[Table]) -> Result<(), StoreError> {
        either!(self, session => session.put_in_place(made, wanted).await)
    }
}

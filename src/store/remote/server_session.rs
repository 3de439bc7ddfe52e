//! One connection to a database server, and the operations that each database implements in its own way: statements,
//! writes of rows, table definitions. The files beside this one contain what is the same for both.

use std::collections::BTreeMap;

use event::Millis;

use super::begin::Begin;
use super::statement_timeout::StatementTimeout;
use crate::store::cell::Cell;
use crate::store::numbered_rows::{Rows, RowsOf};
use crate::store::session::Session;
use crate::store::sql_view::SqlView;
use crate::store::stored_row::corrupt_row;
use crate::store::table_fault::TableFault;
use crate::store::tables::Table;
use crate::store::{StoreError, mysql, postgres};

pub enum ServerSession {
    Postgres(Box<postgres::Session>),
    Mysql(Box<mysql::Session>),
}

impl ServerSession {
    /// Returns the SQL of the time in milliseconds since 1970.
    pub fn now_sql(&self) -> &'static str {
        match self {
            Self::Postgres(_) => postgres::NOW_SQL,
            Self::Mysql(_) => mysql::NOW_SQL,
        }
    }

    /// Returns the limit on the time that the session waits for an answer.
    pub fn statement_timeout(&mut self) -> &mut StatementTimeout {
        either!(self: Postgres | Mysql, session => &mut session.statement_timeout)
    }

    pub async fn begin(&mut self, begin: Begin) -> Result<(), StoreError> {
        either!(self: Postgres | Mysql, session => session.begin(begin).await)
    }

    /// Commits. Returns `Ok` only if the server confirms the commit.
    pub async fn commit(&mut self) -> Result<(), StoreError> {
        either!(self: Postgres | Mysql, session => session.commit().await)
    }

    /// Rolls back. If this fails, the session must not be used again.
    pub async fn rollback(&mut self) -> Result<(), StoreError> {
        either!(self: Postgres | Mysql, session => session.rollback().await)
    }

    /// Takes a named lock. Other sessions that ask for it wait until it is released or this session ends.
    pub async fn lock(&mut self, name: &str) -> Result<(), StoreError> {
        either!(self: Postgres | Mysql, session => session.lock(name).await)
    }

    pub async fn unlock(&mut self, name: &str) -> Result<(), StoreError> {
        either!(self: Postgres | Mysql, session => session.unlock(name).await)
    }

    /// Creates an index unless it exists.
    pub async fn index(&mut self, name: &str, table: &str, columns: &[&str]) -> Result<(), StoreError> {
        either!(self: Postgres | Mysql, session => session.index(name, table, columns).await)
    }

    /// Adds the columns that one of millrace's own tables does not have yet.
    pub async fn add_missing_columns(&mut self, table: &Table) -> Result<(), StoreError> {
        either!(self: Postgres | Mysql, session => session.add_missing_columns(table).await)
    }

    pub async fn drop_tables(&mut self, tables: &[Table]) -> Result<(), StoreError> {
        either!(self: Postgres | Mysql, session => session.drop_tables(tables).await)
    }

    /// Replaces each table of `wanted` by the one of `made`, all of them or none.
    pub async fn replace_tables(&mut self, made: &[Table], wanted: &[Table]) -> Result<(), StoreError> {
        either!(self: Postgres | Mysql, session => session.replace_tables(made, wanted).await)
    }
}

impl Session for ServerSession {
    async fn rows(&mut self, sql: &str, parameters: &[Cell]) -> Result<Vec<Vec<Cell>>, StoreError> {
        either!(self: Postgres | Mysql, session => session.rows(sql, parameters).await)
    }

    async fn change(&mut self, sql: &str, parameters: &[Cell]) -> Result<u64, StoreError> {
        either!(self: Postgres | Mysql, session => session.change(sql, parameters).await)
    }

    async fn add(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError> {
        either!(self: Postgres | Mysql, session => session.add(table, cells).await)
    }

    async fn insert_new(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError> {
        either!(self: Postgres | Mysql, session => session.insert_new(table, cells).await)
    }

    async fn now(&mut self) -> Result<Millis, StoreError> {
        let rows = self.rows(&format!("SELECT {}", self.now_sql()), &[]).await?;
        match rows.first().and_then(|row| row.first()?.integer()) {
            Some(now) => Ok(Millis(now)),
            None => Err(StoreError::Blocked("the database does not tell its time".to_owned())),
        }
    }

    fn lock_rows(&self) -> &'static str {
        " FOR UPDATE"
    }

    fn lock_free_rows(&self) -> &'static str {
        match self {
            Self::Mysql(session) if !session.skips_locked_rows() => " FOR UPDATE",
            Self::Postgres(_) | Self::Mysql(_) => " FOR UPDATE SKIP LOCKED",
        }
    }

    fn row_bytes_max(&self) -> usize {
        match self {
            Self::Postgres(_) => usize::MAX,
            Self::Mysql(session) => session.row_bytes_max(),
        }
    }

    async fn put(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError> {
        either!(self: Postgres | Mysql, session => session.put(table, cells).await)
    }

    async fn remove(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError> {
        either!(self: Postgres | Mysql, session => session.remove(table, cells).await)
    }

    async fn rows_by_key(&mut self, table: &Table, keys: &[Cell]) -> Result<Vec<Vec<Cell>>, StoreError> {
        either!(self: Postgres | Mysql, session => session.rows_by_key(table, keys).await)
    }

    async fn neighbours(
        &mut self,
        table: &Table,
        keys: &[Cell],
    ) -> Result<Vec<(Option<i64>, Option<i64>)>, StoreError> {
        either!(self: Postgres | Mysql, session => session.neighbours(table, keys).await)
    }

    async fn insert_numbered(&mut self, of: &RowsOf, rows: &Rows) -> Result<Vec<i64>, StoreError> {
        either!(self: Postgres | Mysql, session => session.insert_numbered(&of.table, rows).await)
    }

    async fn restore_numbered(
        &mut self,
        table: &Table,
        numbers: &[i64],
        rows: &Rows,
    ) -> Result<(), StoreError> {
        either!(self: Postgres | Mysql, session => session.restore_numbered(table, numbers, rows).await)
    }

    async fn delete_numbers(&mut self, table: &Table, numbers: &[i64]) -> Result<(), StoreError> {
        either!(self: Postgres | Mysql, session => session.delete_numbers(table, numbers).await)
    }

    async fn exists(&mut self, table: &str) -> Result<bool, StoreError> {
        either!(self: Postgres | Mysql, session => session.exists(table).await)
    }

    async fn table_fault(&mut self, table: &Table) -> Result<Option<TableFault>, StoreError> {
        either!(self: Postgres | Mysql, session => session.table_fault(table).await)
    }

    async fn missing_rights(
        &mut self,
        table: &Table,
        exists: bool,
    ) -> Result<Option<TableFault>, StoreError> {
        either!(self: Postgres | Mysql, session => session.missing_rights(table, exists).await)
    }

    fn sql_view_query(&self, sql_view: &SqlView) -> Option<String> {
        match self {
            _ if sql_view.only_for_text_amounts => None,
            Self::Postgres(_) => Some(postgres::sql_view_query(sql_view)),
            Self::Mysql(_) => Some(mysql::sql_view_query(sql_view)),
        }
    }

    async fn sql_view_definition(&mut self, name: &str) -> Result<Option<String>, StoreError> {
        either!(self: Postgres | Mysql, session => session.sql_view_definition(name).await)
    }

    async fn run_schema(&mut self, sql: &str) -> Result<(), StoreError> {
        either!(self: Postgres | Mysql, session => session.run_schema(sql).await)
    }

    async fn create(&mut self, table: &Table) -> Result<(), StoreError> {
        either!(self: Postgres | Mysql, session => session.create(table).await)
    }

    async fn lock_row(&mut self, name: &str) -> Result<(), StoreError> {
        let sql = "SELECT value FROM millrace_meta WHERE name = ? FOR UPDATE";
        self.rows(sql, &[Cell::Text(name.to_owned())]).await.map(drop)
    }

    async fn tally(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError> {
        self.add(table, cells).await?;
        // Only a row with a negative change can reach 0.
        let width = table.columns.len();
        let mut nothing_left = Vec::new();
        for row in cells.chunks_exact(width) {
            if matches!(row.last(), Some(Cell::Integer(change)) if *change < 0) {
                nothing_left.extend_from_slice(&row[..width - 1]);
                nothing_left.push(Cell::Integer(0));
            }
        }
        if nothing_left.is_empty() { Ok(()) } else { self.remove(table, &nothing_left).await }
    }

    async fn tally_before(&mut self, table: &Table, cells: &[Cell]) -> Result<Vec<i64>, StoreError> {
        let keys = |row: &[Cell]| row[..table.key_columns].to_vec();
        let rows: Vec<&[Cell]> = cells.chunks_exact(table.columns.len()).collect();
        let all_keys: Vec<Cell> = rows.iter().flat_map(|row| keys(row)).collect();
        let mut numbers: BTreeMap<Vec<Cell>, i64> = BTreeMap::new();
        for mut row in self.rows_by_key(table, &all_keys).await? {
            let Some(Cell::Integer(number)) = row.pop() else { return Err(corrupt_row(&table.name)) };
            numbers.insert(row, number);
        }
        self.tally(table, cells).await?;
        Ok(rows.iter().map(|row| numbers.get(&keys(row)).copied().unwrap_or(0)).collect())
    }
}

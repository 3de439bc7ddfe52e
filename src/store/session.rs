//! One open transaction of a database, as the rules of the store see it. The rules exist once; a database implements
//! these operations in its own fastest safe way.

use event::Millis;

use super::StoreError;
use super::cell::Cell;
use super::numbered_rows::{Rows, RowsOf};
use super::sql_view::SqlView;
use super::table_fault::TableFault;
use super::tables::Table;

/// SQL that the rules pass must be valid in every database: `?` for a parameter, `"` around names, no dialect.
///
/// The futures of SQLite never wait, so that its writer thread can run the rules without a runtime.
pub trait Session {
    async fn rows(&mut self, sql: &str, parameters: &[Cell]) -> Result<Vec<Vec<Cell>>, StoreError>;

    /// Executes a statement and returns how many rows it matched, changed or not.
    async fn change(&mut self, sql: &str, parameters: &[Cell]) -> Result<u64, StoreError>;

    /// Locks a row of `millrace_meta` until the end of the transaction. A database with one writer has nothing to
    /// lock.
    async fn lock_row(&mut self, name: &str) -> Result<(), StoreError>;

    /// Returns the clock's time, by which leases and due times are measured.
    async fn now(&mut self) -> Result<Millis, StoreError>;

    /// Returns the end of a query that locks its rows until the end of the transaction. A database with one writer has
    /// nothing to lock.
    fn lock_rows(&self) -> &'static str {
        ""
    }

    /// Returns the end of such a query that leaves out rows that somebody else has locked, where the database can.
    fn lock_free_rows(&self) -> &'static str {
        ""
    }

    /// Returns how large a row can be, in bytes; the rest of its statement is taken into account.
    fn row_bytes_max(&self) -> usize {
        usize::MAX
    }

    /// Inserts rows, laid end to end, no two with the same key. Adds the columns beyond the key to an existing row.
    async fn add(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError>;

    /// Adds the last column, a number, to an existing row, or inserts the row. Deletes rows whose number becomes 0,
    /// and updates the table's ranking.
    async fn tally(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError>;

    /// Does the same as `tally`, and returns each row's number before; 0 stands for a missing row.
    async fn tally_before(&mut self, table: &Table, cells: &[Cell]) -> Result<Vec<i64>, StoreError>;

    /// Inserts rows, and leaves a row alone that exists by its key or its unique column.
    async fn insert_new(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError>;

    /// Inserts rows, and replaces rows with the same key.
    async fn put(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError>;

    /// Deletes the rows that are equal to the given ones in all columns.
    async fn remove(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError>;

    /// Returns the rows with these keys, in any order; keys are laid end to end.
    async fn rows_by_key(&mut self, table: &Table, keys: &[Cell]) -> Result<Vec<Vec<Cell>>, StoreError>;

    /// Returns the next smaller and the next larger number for each key. The last column of the key is a number, and
    /// the other columns must be equal. The result is in the order of the keys.
    async fn neighbours(
        &mut self,
        table: &Table,
        keys: &[Cell],
    ) -> Result<Vec<(Option<i64>, Option<i64>)>, StoreError>;

    /// Inserts rows into a table that numbers them, and returns their numbers in the order of the rows.
    async fn insert_numbered(&mut self, of: &RowsOf, rows: &Rows) -> Result<Vec<i64>, StoreError>;

    /// Writes rows under the given numbers, whether a row with that number exists or not.
    async fn restore_numbered(
        &mut self,
        table: &Table,
        numbers: &[i64],
        rows: &Rows,
    ) -> Result<(), StoreError>;

    /// Deletes rows by their numbers, and ignores numbers without a row.
    async fn delete_numbers(&mut self, table: &Table, numbers: &[i64]) -> Result<(), StoreError>;

    /// Returns whether a table or an SQL view of this name exists.
    async fn exists(&mut self, table: &str) -> Result<bool, StoreError>;

    /// Returns everything because of which an existing table does not fit `table`, with the SQL that repairs it.
    async fn table_fault(&mut self, table: &Table) -> Result<Option<TableFault>, StoreError>;

    /// Returns the privileges that the user lacks for a table that fits, or for creating one that does not exist.
    async fn missing_rights(
        &mut self,
        _table: &Table,
        _exists: bool,
    ) -> Result<Option<TableFault>, StoreError> {
        Ok(None)
    }

    /// Returns the query of an SQL view in this database's SQL, or `None` if it is of no use here.
    fn sql_view_query(&self, sql_view: &SqlView) -> Option<String>;

    /// Returns the definition of the SQL view of this name as the database reports it. Returns `None` if there is none.
    async fn sql_view_definition(&mut self, name: &str) -> Result<Option<String>, StoreError>;

    /// Runs a statement that changes the schema.
    async fn run_schema(&mut self, sql: &str) -> Result<(), StoreError>;

    /// Creates a table and the index of its ranking.
    async fn create(&mut self, table: &Table) -> Result<(), StoreError>;

    /// Returns the tables that this database keeps in addition for a table's ranking.
    fn ranking_tables(&self, _table: &Table) -> Vec<Table> {
        Vec::new()
    }
}

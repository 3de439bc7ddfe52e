//! Rows of millrace's own tables, read as values of their types.

use event::{BodyHash, EventId, LogId, Millis};

use super::cell::Cell;
use super::{Store, StoreError};

/// A value of one column.
pub trait FromCell: Sized {
    /// Returns `None` if the cell has another type.
    fn from_cell(cell: Cell) -> Option<Self>;
}

/// The values of one row, in the order of its columns.
pub trait FromRow: Sized {
    /// Returns `None` if a column has another type, or if the number of columns differs.
    fn from_row(row: Vec<Cell>) -> Option<Self>;
}

impl Store {
    /// Reads rows of a table of millrace's own; `?` stands for a parameter.
    pub async fn read<R: FromRow>(
        &self,
        table: &str,
        sql: &str,
        parameters: Vec<Cell>,
    ) -> Result<Vec<R>, StoreError> {
        let rows = self.rows(sql.to_owned(), parameters).await?;
        rows.into_iter().map(|row| decoded(table, row)).collect()
    }

    /// Reads the first row.
    pub async fn read_first<R: FromRow>(
        &self,
        table: &str,
        sql: &str,
        parameters: Vec<Cell>,
    ) -> Result<Option<R>, StoreError> {
        let row = self.rows(sql.to_owned(), parameters).await?.into_iter().next();
        row.map(|row| decoded(table, row)).transpose()
    }
}

/// Decodes a row of one of millrace's own tables. Fails if somebody else has changed it.
pub fn decoded<R: FromRow>(table: &str, row: Vec<Cell>) -> Result<R, StoreError> {
    R::from_row(row).ok_or_else(|| corrupt_row(table))
}

/// The error for a row in one of millrace's own tables that somebody else has changed.
pub fn corrupt_row(table: &str) -> StoreError {
    StoreError::Blocked(format!("table `{table}` contains a row that millrace cannot decode"))
}

/// A row of one column is read as the value of that column.
impl<T: FromCell> FromRow for T {
    fn from_row(row: Vec<Cell>) -> Option<Self> {
        let [cell] = row.try_into().ok()?;
        T::from_cell(cell)
    }
}

macro_rules! row_of {
    ($($column:ident)+) => {
        impl<$($column: FromCell),+> FromRow for ($($column,)+) {
            fn from_row(row: Vec<Cell>) -> Option<Self> {
                let mut cells = row.into_iter();
                let values = ($($column::from_cell(cells.next()?)?,)+);
                cells.next().is_none().then_some(values)
            }
        }
    };
}

row_of!(A B);
row_of!(A B C);
row_of!(A B C D);
row_of!(A B C D E);
row_of!(A B C D E F);
row_of!(A B C D E F G H);
row_of!(A B C D E F G H I);
row_of!(A B C D E F G H I J);
row_of!(A B C D E F G H I J K L M N O);

impl FromCell for Cell {
    fn from_cell(cell: Cell) -> Option<Self> {
        Some(cell)
    }
}

impl<T: FromCell> FromCell for Option<T> {
    fn from_cell(cell: Cell) -> Option<Self> {
        match cell {
            Cell::Null => Some(None),
            cell => T::from_cell(cell).map(Some),
        }
    }
}

macro_rules! value_of {
    ($($value:ty: $cell:pat => $read:expr;)+) => {
        $(impl FromCell for $value {
            fn from_cell(cell: Cell) -> Option<Self> {
                if let $cell = cell { Some($read) } else { None }
            }
        })+
    };
}

value_of! {
    String: Cell::Text(text) => text;
    i64: Cell::Integer(number) => number;
    u64: Cell::Integer(number) => number as u64;
    bool: Cell::Integer(number) => number == 1;
    Millis: Cell::Integer(number) => Millis(number);
    Vec<u8>: Cell::Bytes(bytes) => bytes;
}

impl<const N: usize> FromCell for [u8; N] {
    fn from_cell(cell: Cell) -> Option<Self> {
        Vec::from_cell(cell)?.try_into().ok()
    }
}

impl FromCell for LogId {
    fn from_cell(cell: Cell) -> Option<Self> {
        FromCell::from_cell(cell).map(Self)
    }
}

impl FromCell for BodyHash {
    fn from_cell(cell: Cell) -> Option<Self> {
        FromCell::from_cell(cell).map(Self)
    }
}

/// Event ids are stored as text.
impl FromCell for EventId {
    fn from_cell(cell: Cell) -> Option<Self> {
        String::from_cell(cell)?.parse().ok()
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<EventId> for Cell {
    fn from(id: EventId) -> Self {
        Self::Text(id.to_string())
    }
}

impl From<LogId> for Cell {
    fn from(log: LogId) -> Self {
        Self::Bytes(log.0.to_vec())
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::Integer(number as i64)
    }
}

impl From<Millis> for Cell {
    fn from(time: Millis) -> Self {
        Self::Integer(time.0)
    }
}

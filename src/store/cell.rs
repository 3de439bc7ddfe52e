//! The values of rows: owned, or borrowed from where they are.

use event::{Decimal, Millis, Value};

/// One value of a row. `T` and `B` are the forms in which texts and bytes are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AnyCell<T, B> {
    Null,
    Text(T),
    Integer(i64),
    Decimal(Decimal),
    Time(Millis),
    Bytes(B),
}

/// A value that owns its text or bytes.
pub type Cell = AnyCell<String, Vec<u8>>;

/// A value borrowed from a cell, from a row of a plan, or from a field of an event.
pub type CellRef<'a> = AnyCell<&'a str, &'a [u8]>;

impl<T, B> AnyCell<T, B> {
    /// Changes the form of texts and bytes.
    pub fn map<U, C>(self, text: impl FnOnce(T) -> U, bytes: impl FnOnce(B) -> C) -> AnyCell<U, C> {
        match self {
            Self::Null => AnyCell::Null,
            Self::Text(value) => AnyCell::Text(text(value)),
            Self::Integer(number) => AnyCell::Integer(number),
            Self::Decimal(amount) => AnyCell::Decimal(amount),
            Self::Time(time) => AnyCell::Time(time),
            Self::Bytes(value) => AnyCell::Bytes(bytes(value)),
        }
    }
}

impl Cell {
    /// Returns the cell as an amount. Databases return amounts as decimals, text or integers.
    pub fn decimal(&self) -> Option<Decimal> {
        match self {
            Self::Decimal(amount) => Some(*amount),
            Self::Text(text) => text.parse().ok(),
            Self::Integer(number) => number.to_string().parse().ok(),
            Self::Null | Self::Time(_) | Self::Bytes(_) => None,
        }
    }

    /// Returns the cell as a count. Some databases return sums as decimals.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Decimal(sum) => sum.to_string().parse().ok(),
            Self::Null | Self::Text(_) | Self::Time(_) | Self::Bytes(_) => None,
        }
    }
}

impl CellRef<'_> {
    pub fn to_cell(self) -> Cell {
        self.map(str::to_owned, <[u8]>::to_vec)
    }
}

impl<'a> From<&'a Cell> for CellRef<'a> {
    fn from(cell: &'a Cell) -> Self {
        match cell {
            Cell::Null => Self::Null,
            Cell::Text(text) => Self::Text(text),
            Cell::Integer(number) => Self::Integer(*number),
            Cell::Decimal(amount) => Self::Decimal(*amount),
            Cell::Time(time) => Self::Time(*time),
            Cell::Bytes(bytes) => Self::Bytes(bytes),
        }
    }
}

/// JSON is stored as text, and a boolean as 0 or 1.
impl<'a> From<&'a Value<'_>> for CellRef<'a> {
    fn from(value: &'a Value<'_>) -> Self {
        match value {
            Value::Absent => Self::Null,
            Value::Text(text) => Self::Text(text),
            Value::Any(text) => Self::Text(text),
            Value::Integer(number) => Self::Integer(*number),
            Value::Decimal(amount) => Self::Decimal(*amount),
            Value::Time(time) => Self::Time(*time),
            Value::Boolean(truth) => Self::Integer(i64::from(*truth)),
        }
    }
}

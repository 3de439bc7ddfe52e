//! The values of rows, owned and borrowed.

use event::{Decimal, Millis, Value};

/// One value of a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    Null,
    Text(String),
    Integer(i64),
    Decimal(Decimal),
    Time(Millis),
    Bytes(Vec<u8>),
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

/// The same, borrowed from a cell, from a row of a plan, or from a field of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellRef<'a> {
    Null,
    Text(&'a str),
    Integer(i64),
    Decimal(Decimal),
    Time(Millis),
    Bytes(&'a [u8]),
}

impl CellRef<'_> {
    pub fn to_cell(self) -> Cell {
        match self {
            Self::Null => Cell::Null,
            Self::Text(text) => Cell::Text(text.to_owned()),
            Self::Integer(number) => Cell::Integer(number),
            Self::Decimal(amount) => Cell::Decimal(amount),
            Self::Time(time) => Cell::Time(time),
            Self::Bytes(bytes) => Cell::Bytes(bytes.to_vec()),
        }
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

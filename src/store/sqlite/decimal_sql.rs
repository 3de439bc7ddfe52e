//! `decimal_add(a, b)` for SQLite, which has no exact decimals: its NUMERIC rounds above 2^53. Amounts
//! are kept as text and added here.

use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error};

use crate::event::Decimal;

/// Begins the message of an error that is the row's fault, not the database's.
pub const DATA_ERROR: &str = "decimal_add: ";

pub fn install(connection: &Connection) -> rusqlite::Result<()> {
    let flags =
        FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function("decimal_add", 2, flags, |context| {
        let sum = number(context, 0)?.checked_add(number(context, 1)?);
        sum.map(|sum| sum.to_string())
            .ok_or_else(|| failure("the sum has more than 34 digits before the point".to_owned()))
    })
}

fn number(context: &Context<'_>, index: usize) -> rusqlite::Result<Decimal> {
    match context.get_raw(index) {
        ValueRef::Text(text) => {
            let text = std::str::from_utf8(text).map_err(|error| failure(error.to_string()))?;
            text.parse().map_err(|error| failure(format!("`{text}` {error}")))
        }
        ValueRef::Integer(value) => {
            value.to_string().parse().map_err(|error| failure(format!("`{value}` {error}")))
        }
        other => Err(failure(format!("a value of type {} is no decimal", other.data_type()))),
    }
}

fn failure(reason: String) -> Error {
    Error::UserFunctionError(format!("{DATA_ERROR}{reason}").into())
}

//! The SQL function `decimal_add(a, b, column)`. SQLite has no exact decimals: its NUMERIC rounds above 2^53. Amounts
//! are therefore stored as text and added here.

use event::{Decimal, DecimalError};
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error};

/// The prefix of an error message that is caused by a row's data, not by the database.
pub const DATA_ERROR: &str = "decimal_add: ";

pub fn install(connection: &Connection) -> rusqlite::Result<()> {
    let flags =
        FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function("decimal_add", 3, flags, |context| {
        let sum = number(context, 0)?.checked_add(number(context, 1)?);
        sum.map(|sum| sum.to_string())
            .ok_or_else(|| failure(context, "would have more than 34 digits before the point"))
    })
}

/// Reads an amount. An error names the column and the kind of value, but not the value itself: errors are logged, and
/// values are users' data.
fn number(context: &Context<'_>, index: usize) -> rusqlite::Result<Decimal> {
    match context.get_raw(index) {
        ValueRef::Text(text) => {
            let text =
                std::str::from_utf8(text).map_err(|_| failure(context, "holds text that is not UTF-8"))?;
            text.parse().map_err(|error: DecimalError| failure(context, &format!("holds text that {error}")))
        }
        ValueRef::Integer(value) => value
            .to_string()
            .parse()
            .map_err(|error: DecimalError| failure(context, &format!("holds an integer that {error}"))),
        // Possible in a user's own table.
        ValueRef::Null => Ok(Decimal::ZERO),
        other => Err(failure(
            context,
            &format!("holds a value of type {}, which is not a decimal", other.data_type()),
        )),
    }
}

fn failure(context: &Context<'_>, reason: &str) -> Error {
    let column = context.get::<String>(2).unwrap_or_default();
    Error::UserFunctionError(format!("{DATA_ERROR}column `{column}` {reason}").into())
}

//! Converts values to and from the database's types, exactly in both directions.

use event::{Decimal, Millis};
use jiff::SignedDuration;
use jiff::civil::DateTime;
use mysql_async::consts::ColumnType;
use mysql_async::{Column, Row, Value};

use crate::store::StoreError;
use crate::store::cell::{Cell, CellRef};

/// The character set with which the server marks bytes that are not text.
const BINARY: u16 = 63;

const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

pub fn value<'a>(cell: impl Into<CellRef<'a>>) -> Result<Value, StoreError> {
    Ok(match cell.into() {
        CellRef::Null => Value::NULL,
        CellRef::Text(text) => Value::Bytes(text.as_bytes().to_vec()),
        CellRef::Integer(number) => Value::Int(number),
        CellRef::Decimal(amount) => Value::Bytes(amount.to_string().into_bytes()),
        CellRef::Time(time) => date(time)?,
        CellRef::Bytes(bytes) => Value::Bytes(bytes.to_vec()),
    })
}

/// Returns how many bytes of a packet a value takes, with its type and length.
pub fn packet_bytes(value: &Value) -> usize {
    match value {
        Value::Bytes(bytes) => bytes.len() + 12,
        _ => 16,
    }
}

/// Converts a time. The database stores only years of four digits.
fn date(time: Millis) -> Result<Value, StoreError> {
    let beyond = || StoreError::Data("a time is outside the years 1 to 9999".to_owned());
    let civil = EPOCH.checked_add(SignedDuration::from_millis(time.0)).map_err(|_| beyond())?;
    let year = u16::try_from(civil.year()).ok().filter(|year| *year > 0).ok_or_else(beyond)?;
    Ok(Value::Date(
        year,
        civil.month() as u8,
        civil.day() as u8,
        civil.hour() as u8,
        civil.minute() as u8,
        civil.second() as u8,
        civil.subsec_nanosecond() as u32 / 1_000,
    ))
}

pub fn row(row: Row) -> Vec<Cell> {
    let columns = row.columns();
    row.unwrap().into_iter().zip(columns.iter()).map(|(value, column)| cell(value, column)).collect()
}

fn cell(value: Value, column: &Column) -> Cell {
    match value {
        Value::NULL => Cell::Null,
        Value::Int(number) => Cell::Integer(number),
        Value::UInt(number) => match i64::try_from(number) {
            Ok(number) => Cell::Integer(number),
            Err(_) => Cell::Text(number.to_string()),
        },
        Value::Float(number) => Cell::Text(number.to_string()),
        Value::Double(number) => Cell::Text(number.to_string()),
        Value::Date(year, month, day, hour, minute, second, micros) => {
            time(year, month, day, (hour, minute, second, micros))
        }
        Value::Time(negative, days, hours, minutes, seconds, micros) => {
            let sign = if negative { "-" } else { "" };
            let hours = days * 24 + u32::from(hours);
            Cell::Text(format!("{sign}{hours:02}:{minutes:02}:{seconds:02}.{micros:06}"))
        }
        Value::Bytes(bytes) => cell_from_bytes(bytes, column),
    }
}

fn cell_from_bytes(bytes: Vec<u8>, column: &Column) -> Cell {
    match column.column_type() {
        ColumnType::MYSQL_TYPE_NEWDECIMAL | ColumnType::MYSQL_TYPE_DECIMAL => decimal(bytes),
        ColumnType::MYSQL_TYPE_BIT => bits(bytes),
        // JSON is text, whatever character set the server reports.
        ColumnType::MYSQL_TYPE_JSON => text(bytes),
        _ if column.character_set() == BINARY => Cell::Bytes(bytes),
        _ => text(bytes),
    }
}

fn text(bytes: Vec<u8>) -> Cell {
    match String::from_utf8(bytes) {
        Ok(text) => Cell::Text(text),
        Err(error) => Cell::Bytes(error.into_bytes()),
    }
}

/// Reads a DECIMAL. One with more places than `Decimal` has stays text, with all of its digits.
fn decimal(bytes: Vec<u8>) -> Cell {
    match text(bytes) {
        Cell::Text(digits) => digits.parse::<Decimal>().map_or(Cell::Text(digits), Cell::Decimal),
        other => other,
    }
}

fn bits(bytes: Vec<u8>) -> Cell {
    let number = bytes.iter().try_fold(0_i64, |number, byte| {
        number.checked_mul(256)?.checked_add(i64::from(*byte)).filter(|sum| *sum >= 0)
    });
    number.map_or(Cell::Bytes(bytes), Cell::Integer)
}

/// Reads a time. `0000-00-00`, which older tables can contain, is not a valid time and stays text.
fn time(year: u16, month: u8, day: u8, (hour, minute, second, micros): (u8, u8, u8, u32)) -> Cell {
    let civil = DateTime::new(
        year as i16,
        month as i8,
        day as i8,
        hour as i8,
        minute as i8,
        second as i8,
        (micros / 1_000) as i32 * 1_000_000,
    );
    match civil.map(|civil| i64::try_from(civil.duration_since(EPOCH).as_millis())) {
        Ok(Ok(millis)) => Cell::Time(Millis(millis)),
        _ => Cell::Text(format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(kind: ColumnType, set: u16) -> Column {
        Column::new(kind).with_character_set(set)
    }

    #[test]
    fn a_time_is_read_back_unchanged() {
        for millis in [0, 1_762_000_000_123, -1, -62_135_596_800_000, 253_402_300_799_999] {
            let stored = value(&Cell::Time(Millis(millis))).expect("a date");
            let kind = column(ColumnType::MYSQL_TYPE_DATETIME, BINARY);
            assert_eq!(cell(stored, &kind), Cell::Time(Millis(millis)));
        }
        for beyond in [253_402_300_800_000, -62_135_596_800_001, i64::MAX, i64::MIN] {
            assert!(matches!(value(&Cell::Time(Millis(beyond))), Err(StoreError::Data(_))), "{beyond}");
        }
        let zero = Value::Date(0, 0, 0, 0, 0, 0, 0);
        let kind = column(ColumnType::MYSQL_TYPE_DATETIME, BINARY);
        assert_eq!(cell(zero, &kind), Cell::Text("0000-00-00 00:00:00".to_owned()));
    }

    #[test]
    fn bytes_are_decoded_by_their_column_type() {
        let read = |bytes: &[u8], kind, set| cell(Value::Bytes(bytes.to_vec()), &column(kind, set));
        let text = |text: &str| Cell::Text(text.to_owned());
        assert_eq!(read(b"a", ColumnType::MYSQL_TYPE_VAR_STRING, 45), text("a"));
        assert_eq!(read(b"a", ColumnType::MYSQL_TYPE_VAR_STRING, BINARY), Cell::Bytes(b"a".to_vec()));
        assert_eq!(read(b"{}", ColumnType::MYSQL_TYPE_JSON, BINARY), text("{}"));
        assert_eq!(read(&[1, 0], ColumnType::MYSQL_TYPE_BIT, BINARY), Cell::Integer(256));
        assert_eq!(read(&[255; 8], ColumnType::MYSQL_TYPE_BIT, BINARY), Cell::Bytes(vec![255; 8]));
        let amount = |text: &str| Cell::Decimal(text.parse().expect("an amount"));
        assert_eq!(read(b"10.5000", ColumnType::MYSQL_TYPE_NEWDECIMAL, BINARY), amount("10.5"));
        assert_eq!(read(b"0.00001", ColumnType::MYSQL_TYPE_NEWDECIMAL, BINARY), text("0.00001"));
        assert_eq!(
            cell(Value::UInt(u64::MAX), &column(ColumnType::MYSQL_TYPE_LONGLONG, BINARY)),
            text("18446744073709551615")
        );
    }
}

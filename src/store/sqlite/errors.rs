//! Classifies SQLite's errors by what helps: a retry, a dead letter for the event, or a person.

use rusqlite::{Error, ErrorCode};

use super::decimal_sql::DATA_ERROR;
use crate::store::StoreError;

pub fn classify(error: Error) -> StoreError {
    let message = error.to_string();
    if let Some(at) = message.find(DATA_ERROR) {
        return StoreError::Data(message[at + DATA_ERROR.len()..].to_owned());
    }
    if let Some(at) = message.find("no such table: ") {
        let table = &message[at + "no such table: ".len()..];
        let end = table.find([' ', ':']).unwrap_or(table.len());
        return StoreError::NoTable(table[..end].to_owned());
    }
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::OutOfMemory
            | ErrorCode::OperationInterrupted
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::SchemaChanged,
        ) => StoreError::Transient(message),
        Some(
            ErrorCode::ConstraintViolation
            | ErrorCode::TypeMismatch
            | ErrorCode::TooBig
            | ErrorCode::ParameterOutOfRange,
        ) => StoreError::Data(message),
        _ => StoreError::Blocked(message),
    }
}

//! Classifies SQLite's errors by what helps: a retry, a dead letter for the event, or a person. Messages name tables and
//! columns, and contain no values.

use rusqlite::{Error, ErrorCode, ffi};

use super::decimal_sql::DATA_ERROR;
use crate::store::StoreError;

pub fn classify(error: Error) -> StoreError {
    // A trigger's own message can contain anything.
    if error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_CONSTRAINT_TRIGGER) {
        return StoreError::Data("a trigger of the table refuses the row".to_owned());
    }
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

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    #[test]
    fn the_message_of_a_trigger_is_replaced_whatever_it_contains() {
        for message in
            ["'refused: ' || NEW.who", "'no such table: ' || NEW.who", "'decimal_add: ' || NEW.who"]
        {
            for action in ["ABORT", "FAIL", "ROLLBACK"] {
                let connection = Connection::open_in_memory().expect("opens");
                let sql = format!(
                    "CREATE TABLE t (who TEXT); CREATE TRIGGER refusal BEFORE INSERT ON t \
                     BEGIN SELECT RAISE({action}, {message}); END"
                );
                connection.execute_batch(&sql).expect("a trigger");
                let refused = connection.execute("INSERT INTO t VALUES ('ann')", []).expect_err("refused");
                assert_eq!(
                    classify(refused),
                    StoreError::Data("a trigger of the table refuses the row".to_owned())
                );
            }
        }
    }
}

//! Classifies PostgreSQL's errors: retry, dead-letter one event, or block the view until a person acts. A data error
//! contains only the names of columns and constraints, and nothing that the server writes about values.

use std::error::Error as _;
use std::io;

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use crate::store::{StoreError, quote};

pub fn classify(error: &Error) -> StoreError {
    if let Some(answer) = error.as_db_error() {
        return classify_answer(answer);
    }
    if error.is_closed() {
        return StoreError::Transient("the connection to the database was lost".to_owned());
    }
    let source = error.source();
    match source.and_then(|source| source.downcast_ref::<io::Error>()) {
        Some(io_error) if !is_tls_error(io_error) => {
            StoreError::Transient(format!("the connection to the database failed: {io_error}"))
        }
        _ => StoreError::Blocked(match source {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        }),
    }
}

/// Returns whether TLS failed, for example because of an untrusted certificate. Retrying does not help.
fn is_tls_error(error: &io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>)
}

/// Returns whether the table was changed after the statement was prepared. Preparing it again helps.
pub fn is_stale(error: &Error) -> bool {
    error.as_db_error().is_some_and(|answer| {
        answer.code() == &SqlState::FEATURE_NOT_SUPPORTED && answer.routine() == Some("RevalidateCachedQuery")
    })
}

fn classify_answer(answer: &DbError) -> StoreError {
    let stale = answer.routine() == Some("RevalidateCachedQuery");
    match class_of(answer.code().code()) {
        _ if stale => StoreError::Transient("a table was changed after a statement was prepared".to_owned()),
        ErrorClass::Transient => StoreError::Transient(server_message(answer)),
        ErrorClass::Data => StoreError::Data(data_message(answer)),
        ErrorClass::NoTable => StoreError::NoTable(quoted_name(answer.message()).to_owned()),
        ErrorClass::Blocked if answer.code() == &SqlState::INSUFFICIENT_PRIVILEGE => {
            let (message, grant) = (server_message(answer), grant_sql(answer.message()));
            StoreError::Blocked(format!("{message}; to fix it, run {grant} TO the user of `[store] url`"))
        }
        ErrorClass::Blocked => StoreError::Blocked(server_message(answer)),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ErrorClass {
    Transient,
    Data,
    NoTable,
    Blocked,
}

/// Classifies an SQLSTATE; its first two characters are its class.
fn class_of(code: &str) -> ErrorClass {
    match code {
        "42P01" => ErrorClass::NoTable,
        // Not caused by an event: an invalid binary value is a bug in millrace, and a sequence can be exhausted.
        "22P03" | "2200H" => ErrorClass::Blocked,
        // The server is read-only, for example after a failover; the transaction failed or was idle too long; an
        // object is in use or locked.
        "25006" | "25P02" | "25P03" | "55006" | "55P03" => ErrorClass::Transient,
        // An index entry or value is too large, JSON is nested too deeply, or the user's own trigger or rule refuses
        // a row.
        "54000" | "54001" | "P0001" | "44000" => ErrorClass::Data,
        _ => match code.get(..2) {
            Some("08" | "40" | "53" | "57") => ErrorClass::Transient,
            Some("22" | "23") => ErrorClass::Data,
            _ => ErrorClass::Blocked,
        },
    }
}

fn server_message(answer: &DbError) -> String {
    format!("{} (SQLSTATE {})", answer.message(), answer.code().code())
}

/// Returns a message without values. The server's messages of class 22 quote the value, and triggers can write
/// anything.
fn data_message(answer: &DbError) -> String {
    let code = answer.code().code();
    let reason = match code {
        "22001" => "a text is too long for its column",
        "22003" => "a number is out of range for its column",
        "22007" | "22008" => "a time is not valid for its column",
        "22021" | "22P05" => "a text contains a character that the database does not accept",
        "22P02" | "22030" | "22032" => "a value is not valid for the type of its column",
        "P0001" | "44000" => "a rule or trigger of the table refuses the row",
        _ if code.starts_with("22") => "the database rejected a value",
        _ => return server_message(answer),
    };
    match answer.column() {
        Some(column) => format!("column `{column}`: {reason} (SQLSTATE {code})"),
        None => format!("{reason} (SQLSTATE {code})"),
    }
}

/// Returns the beginning of the GRANT that gives the missing privilege. The name of the table or sequence is known
/// only if the server's messages are in English.
fn grant_sql(message: &str) -> String {
    const ROWS: &str = "GRANT SELECT, INSERT, UPDATE, DELETE ON";
    const NUMBERS: &str = "GRANT USAGE, UPDATE ON";
    let of = |kind: &str| message.strip_prefix("permission denied for ")?.strip_prefix(kind).map(quote);
    match (of("table "), of("sequence ")) {
        (Some(table), _) => format!("{ROWS} {table}"),
        (_, Some(sequence)) => format!("{NUMBERS} SEQUENCE {sequence}"),
        _ => format!("{ROWS} ALL TABLES IN SCHEMA public, and {NUMBERS} ALL SEQUENCES IN SCHEMA public,"),
    }
}

/// Returns the quoted name in a message such as `relation "t" does not exist`, in any language.
fn quoted_name(message: &str) -> &str {
    let quotes = ['"', '«', '»', '„', '“', '”', '「', '」', '\''];
    let mut parts = message.split(quotes);
    parts.nth(1).map_or(message, str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_classified_by_their_sqlstate() {
        for (codes, class) in [
            (
                &["40001", "40P01", "53100", "53300", "57P01", "57P03", "08006", "25006", "55P03"][..],
                ErrorClass::Transient,
            ),
            (&["22001", "22003", "22P02", "23505", "23502", "54000", "22021"], ErrorClass::Data),
            (
                &["42501", "42703", "28P01", "3D000", "XX000", "2200H", "22P03", "0A000", ""],
                ErrorClass::Blocked,
            ),
            (&["42P01"], ErrorClass::NoTable),
        ] {
            for code in codes {
                assert_eq!(class_of(code), class, "{code}");
            }
        }
    }

    #[test]
    fn a_missing_privilege_is_reported_with_its_grant() {
        assert!(grant_sql("permission denied for table users").ends_with("DELETE ON \"users\""));
        assert!(grant_sql("permission denied for sequence s").ends_with("UPDATE ON SEQUENCE \"s\""));
        assert!(grant_sql("keine Berechtigung").contains(" ON ALL TABLES "));
    }

    #[test]
    fn a_missing_table_is_named_in_any_language() {
        for (message, name) in [
            ("relation \"users_revenue\" does not exist", "users_revenue"),
            ("Relation »users_revenue« existiert nicht", "users_revenue"),
            ("la relation « users_revenue » n'existe pas", "users_revenue"),
        ] {
            assert_eq!(quoted_name(message), name);
        }
    }
}

//! Sorts PostgreSQL's errors by what helps: trying again, passing one event by, or a person. What the server
//! says about values stays here: of an error of a row, only the names of columns and constraints go on.

use std::error::Error as _;
use std::io;

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use crate::store::{StoreError, quote};

pub fn classify(error: &Error) -> StoreError {
    if let Some(answer) = error.as_db_error() {
        return of_server(answer);
    }
    if error.is_closed() {
        return StoreError::Transient("the connection to the database is lost".to_owned());
    }
    let source = error.source();
    match source.and_then(|source| source.downcast_ref::<io::Error>()) {
        Some(lost) if !is_of_encryption(lost) => {
            StoreError::Transient(format!("the database cannot be reached: {lost}"))
        }
        _ => StoreError::Blocked(match source {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        }),
    }
}

/// A certificate that is not believed, for instance: it does not go by itself.
fn is_of_encryption(error: &io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>)
}

/// A statement that was prepared before its table was changed: prepared anew it goes.
pub fn is_stale(error: &Error) -> bool {
    error.as_db_error().is_some_and(|answer| {
        answer.code() == &SqlState::FEATURE_NOT_SUPPORTED && answer.routine() == Some("RevalidateCachedQuery")
    })
}

fn of_server(answer: &DbError) -> StoreError {
    let stale = answer.routine() == Some("RevalidateCachedQuery");
    match kind(answer.code().code()) {
        _ if stale => StoreError::Transient("a table was changed under a statement".to_owned()),
        Sort::Transient => StoreError::Transient(said(answer)),
        Sort::Data => StoreError::Data(about_row(answer)),
        Sort::NoTable => StoreError::NoTable(named(answer.message()).to_owned()),
        Sort::Person if answer.code() == &SqlState::INSUFFICIENT_PRIVILEGE => {
            StoreError::Blocked(format!("{}: {}", said(answer), granted(answer.message())))
        }
        Sort::Person => StoreError::Blocked(said(answer)),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Transient,
    Data,
    NoTable,
    Person,
}

/// By SQLSTATE: its first two characters are the class.
fn kind(code: &str) -> Sort {
    match code {
        "42P01" => Sort::NoTable,
        // What is not in the binary form of its type is a fault of ours, and a sequence at its end of nobody's row.
        "22P03" | "2200H" => Sort::Person,
        // Read-only, as a server is that another one has taken over from; a transaction that was let lie.
        "25006" | "25P02" | "25P03" | "55006" | "55P03" => Sort::Transient,
        // An index entry or a value too large; JSON nested too deeply; a trigger of the user's own.
        "54000" | "54001" | "P0001" | "44000" => Sort::Data,
        _ => match code.get(..2) {
            Some("08" | "40" | "53" | "57") => Sort::Transient,
            Some("22" | "23") => Sort::Data,
            _ => Sort::Person,
        },
    }
}

fn said(answer: &DbError) -> String {
    format!("{} (SQLSTATE {})", answer.message(), answer.code().code())
}

/// Messages of class 22 quote the value, and those of triggers say what they like.
fn about_row(answer: &DbError) -> String {
    let code = answer.code().code();
    let reason = match code {
        "22001" => "a text is too long for its column",
        "22003" => "a number is out of the range of its column",
        "22007" | "22008" => "a time is not one that its column takes",
        "22021" | "22P05" => "a text holds a character that the database does not take",
        "22P02" | "22030" | "22032" => "a value is not in the form of its column's type",
        "P0001" | "44000" => "a rule of the table refuses the row",
        _ if code.starts_with("22") => "a value is not to the database's liking",
        _ => return said(answer),
    };
    match answer.column() {
        Some(column) => format!("column `{column}`: {reason} (SQLSTATE {code})"),
        None => format!("{reason} (SQLSTATE {code})"),
    }
}

/// What gives a right back; for what is known where the server says it in English.
fn granted(message: &str) -> String {
    const ROWS: &str = "GRANT SELECT, INSERT, UPDATE, DELETE ON";
    const NUMBERS: &str = "GRANT USAGE, UPDATE ON";
    let of = |kind: &str| message.strip_prefix("permission denied for ")?.strip_prefix(kind).map(quote);
    let granted = match (of("table "), of("sequence ")) {
        (Some(table), _) => format!("{ROWS} {table}"),
        (_, Some(sequence)) => format!("{NUMBERS} SEQUENCE {sequence}"),
        _ => format!("{ROWS} ALL TABLES IN SCHEMA public, and {NUMBERS} ALL SEQUENCES IN SCHEMA public,"),
    };
    format!("{granted} TO the user of `[store] url` mends it")
}

/// The name in `relation "t" does not exist`, in whatever language that is said.
fn named(message: &str) -> &str {
    let quotes = ['"', '«', '»', '„', '“', '”', '「', '」', '\''];
    let mut parts = message.split(quotes);
    parts.nth(1).map_or(message, str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_sorted_by_what_helps() {
        for (codes, sort) in [
            (
                &["40001", "40P01", "53100", "53300", "57P01", "57P03", "08006", "25006", "55P03"][..],
                Sort::Transient,
            ),
            (&["22001", "22003", "22P02", "23505", "23502", "54000", "22021"], Sort::Data),
            (&["42501", "42703", "28P01", "3D000", "XX000", "2200H", "22P03", "0A000", ""], Sort::Person),
            (&["42P01"], Sort::NoTable),
        ] {
            for code in codes {
                assert_eq!(kind(code), sort, "{code}");
            }
        }
    }

    #[test]
    fn a_missing_right_is_named_with_what_gives_it_back() {
        assert!(granted("permission denied for table users").contains("DELETE ON \"users\" TO "));
        assert!(granted("permission denied for sequence s").contains("UPDATE ON SEQUENCE \"s\" TO "));
        assert!(granted("keine Berechtigung").contains(" ON ALL TABLES "));
    }

    #[test]
    fn a_missing_table_is_named_in_any_language() {
        for (message, name) in [
            ("relation \"users_revenue\" does not exist", "users_revenue"),
            ("Relation »users_revenue« existiert nicht", "users_revenue"),
            ("la relation « users_revenue » n'existe pas", "users_revenue"),
        ] {
            assert_eq!(named(message), name);
        }
    }
}

//! Classifies the errors of MySQL and MariaDB: retry, dead-letter one event, or block the view until a person acts.
//! Messages never contain a row's values, although some of the server's own messages do.

use mysql_async::{DriverError, Error, IoError, ServerError};

use super::repair_sql;
use crate::store::StoreError;

pub fn classify(error: Error) -> StoreError {
    match error {
        Error::Server(error) => classify_server_error(&error),
        Error::Io(IoError::Tls(error)) => {
            StoreError::Blocked(format!("cannot open an encrypted connection to the database: {error}"))
        }
        Error::Io(IoError::Io(error)) if is_tls_error(&error) => {
            StoreError::Blocked(format!("cannot open an encrypted connection to the database: {error}"))
        }
        Error::Io(IoError::Io(error)) => {
            StoreError::Transient(format!("the connection to the database failed: {error}"))
        }
        Error::Driver(DriverError::PacketTooLarge) => StoreError::Data(too_large()),
        Error::Driver(DriverError::NoClientSslFlagFromServer) => StoreError::Blocked(
            "`ssl-mode` requires an encrypted connection, but the server offers none; enable TLS on the server, or set `ssl-mode=DISABLED`"
                .to_owned(),
        ),
        Error::Driver(DriverError::ConnectionClosed | DriverError::PacketOutOfOrder) => {
            StoreError::Transient("the connection to the database was lost".to_owned())
        }
        Error::Driver(DriverError::UnknownAuthPlugin { name }) => {
            StoreError::Blocked(format!(
                "the server requires the authentication plugin `{name}`, which millrace does not support"
            ))
        }
        // The driver's message would contain the packet, and so perhaps a row's values.
        Error::Driver(DriverError::UnexpectedPacket { .. }) => {
            StoreError::Transient("the database sent a packet that millrace cannot read".to_owned())
        }
        Error::Other(error) => StoreError::Blocked(error.to_string()),
        error => StoreError::Blocked(error.to_string()),
    }
}

/// Returns whether TLS failed, for example because of a wrong certificate; a lost connection is another I/O error.
fn is_tls_error(error: &std::io::Error) -> bool {
    match error.get_ref() {
        Some(cause) => cause.is::<rustls::Error>(),
        None => false,
    }
}

pub fn too_large() -> String {
    "a row is larger than the database's `max_allowed_packet`".to_owned()
}

pub fn classify_server_error(error: &ServerError) -> StoreError {
    match kind(error.code, &error.message) {
        Kind::Transient => StoreError::Transient(server_message(error)),
        Kind::Data(reason) => StoreError::Data(match column(&error.message) {
            Some(column) => format!("column `{column}`: {reason}"),
            None => reason.to_owned(),
        }),
        Kind::NoTable => StoreError::NoTable(table(&error.message)),
        Kind::Blocked => StoreError::Blocked(match grant_sql(error) {
            Some(sql) => format!("{}; to fix it, run: {sql}", server_message(error)),
            None => server_message(error),
        }),
    }
}

/// Returns an error if a warning says that the stored value differs, or can differ, from the given one.
pub fn classify_warning(code: u16, message: &str) -> Option<StoreError> {
    match code {
        // Not about values: an unsafe statement in a statement-based binary log, or deprecated syntax.
        1592 | 1287 | 1681 | 3719 | 3778 => None,
        _ => match classify_server_error(&ServerError {
            code,
            message: message.to_owned(),
            state: String::new(),
        }) {
            // A real transient error would have stopped the statement.
            StoreError::Transient(message) => Some(StoreError::Blocked(message)),
            error => Some(error),
        },
    }
}

fn server_message(error: &ServerError) -> String {
    format!("{} ({})", error.message, error.code)
}

/// Returns the GRANT for a message such as `INSERT command denied to user 'a'@'b' for table `base`.`t``; some
/// versions leave out the database. The host in the message is the client's and not the account's, so the GRANT omits
/// it.
fn grant_sql(error: &ServerError) -> Option<String> {
    const ROWS: &str = "SELECT, INSERT, UPDATE, DELETE";
    let (denied, rest) =
        error.message.split_once(" command denied to user '").filter(|_| error.code == 1142)?;
    let (user, rest) = rest.split_once('\'')?;
    let (_, table) = rest.split_once(" for table ")?;
    let rights = if denied.split(", ").all(|right| ROWS.contains(right)) { ROWS } else { denied };
    Some(format!("GRANT {rights} ON {} TO {}", table.replace('\'', "`"), repair_sql::name(user)))
}

enum Kind {
    Transient,
    Data(&'static str),
    NoTable,
    Blocked,
}

fn kind(code: u16, message: &str) -> Kind {
    match code {
        // Another session is in the way, or a limit on sessions is reached.
        1205 | 1213 | 1206 | 1020 | 3572 | 1040 | 1203 | 1226 | 1412 | 1615 | 1243 => Kind::Transient,
        // The server stops, starts, leaves its cluster or fails over, or somebody ended the session or the statement.
        1053
        | 1077..=1080
        | 1152
        | 1158..=1161
        | 1184
        | 1189
        | 1190
        | 1927
        | 1317
        | 1969
        | 3024
        | 1047
        | 1180
        | 1836
        | 3100
        | 3101
        | 3168
        | 3169
        | 4031 => Kind::Transient,
        1290 if message.contains("read-only") || message.contains("read_only") => Kind::Transient,
        // Out of disk space or memory.
        1021 | 1026 | 1037 | 1038 | 1041 | 1114 => Kind::Transient,
        1030 if message.contains(" 28 ") || message.contains("No space") => Kind::Transient,
        1146 => Kind::NoTable,
        _ => data_reason(code).map_or(Kind::Blocked, Kind::Data),
    }
}

/// Returns the reason for a data error; the message can name a column before it.
fn data_reason(code: u16) -> Option<&'static str> {
    Some(match code {
        1264 | 1690 => "a number is out of range",
        1406 => "a text is too long",
        1265 => "a value would be truncated",
        1366 | 1292 | 1411 | 1441 | 1367 | 1416 => "a value has the wrong type or format",
        1300 => "a text contains characters that its character set does not support",
        1048 | 1263 | 1566 => "a value is required",
        1022 | 1062 | 1586 => "the value already exists in a unique key",
        1216 | 1217 | 1451 | 1452 => "a foreign key refuses the row",
        3819 | 4025 => "a check constraint of the table refuses the row",
        1644 => "a trigger of the table refuses the row",
        3140 | 3141 | 3143 | 3156 | 3157 | 4037 | 4038 => "a value is not valid JSON",
        1526 | 1591 => "the table has no partition for the row",
        1118 | 1713 | 139 => "a row is too large for the table",
        1153 | 1301 => "a row is larger than the database's `max_allowed_packet`",
        _ => return None,
    })
}

/// Returns the column named at the end of a message; the text before it can be a value.
fn column(message: &str) -> Option<&str> {
    let lowered = message.to_ascii_lowercase();
    let rest = &message[lowered.rfind("column ")? + "column ".len()..];
    let quote = rest.chars().next().filter(|quote| "'`\"".contains(*quote))?;
    // `database`.`table`.`column`, or only the column.
    let rest = rest.rsplit_once(" at row").map_or(rest, |(names, _)| names);
    let names = rest[1..].split_once(' ').map_or(&rest[1..], |(names, _)| names);
    let names = names.strip_suffix(quote)?;
    let separator = format!("{quote}.{quote}");
    names.rsplit(separator.as_str()).next()
}

/// Returns the table's name in `Table 'base.name' doesn't exist`.
fn table(message: &str) -> String {
    let name = message.split_once('\'').and_then(|(_, rest)| rest.rsplit_once("' ")).map(|(name, _)| name);
    let name = name.unwrap_or(message);
    name.split_once('.').map_or(name, |(_, table)| table).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classified(code: u16, message: &str) -> StoreError {
        classify_server_error(&ServerError { code, message: message.to_owned(), state: String::new() })
    }

    #[test]
    fn errors_are_classified_by_their_code() {
        for (code, message) in [
            (1213, "Deadlock found when trying to get lock; try restarting transaction"),
            (1205, "Lock wait timeout exceeded; try restarting transaction"),
            (1040, "Too many connections"),
            (1114, "The table 't' is full"),
            (
                1290,
                "The MariaDB server is running with the --read-only option so it cannot execute this statement",
            ),
            (1030, "Got error 28 \"No space left on device\" from storage engine InnoDB"),
        ] {
            assert!(matches!(classified(code, message), StoreError::Transient(_)), "{code}");
        }
        for (code, message) in [
            (1142, "INSERT command denied to user 'a'@'b' for table `base`.`t`"),
            (1054, "Unknown column 'x' in 'INSERT INTO'"),
            (1364, "Field 'x' doesn't have a default value"),
            (1290, "The MariaDB server is running with the --secure-file-priv option"),
            (9999, "An unknown error"),
        ] {
            assert!(matches!(classified(code, message), StoreError::Blocked(_)), "{code}");
        }
        assert_eq!(
            classified(1146, "Table 'base.users' doesn't exist"),
            StoreError::NoTable("users".to_owned())
        );
    }

    #[test]
    fn a_missing_privilege_is_reported_with_its_grant() {
        for (message, grant) in [
            (
                "INSERT, UPDATE command denied to user 'a'@'b' for table `base`.`t`",
                ": GRANT SELECT, INSERT, UPDATE, DELETE ON `base`.`t` TO `a`",
            ),
            ("DROP command denied to user 'a'@'b' for table 't'", ": GRANT DROP ON `t` TO `a`"),
        ] {
            let StoreError::Blocked(said) = classified(1142, message) else { panic!("{message}") };
            assert!(said.ends_with(grant), "{said}");
        }
    }

    #[test]
    fn a_data_error_names_its_column_and_no_value() {
        for (code, message, column) in [
            (1406, "Data too long for column 'path' at row 3", "column `path`: "),
            (
                1366,
                "Incorrect decimal value: 'secret' for column `base`.`t`.`price` at row 1",
                "column `price`: ",
            ),
            (1366, "Incorrect integer value: 'column 'secret' at' for column 'n' at row 1", "column `n`: "),
            (1048, "Column 'who' cannot be null", "column `who`: "),
            (1062, "Duplicate entry 'secret' for key 'PRIMARY'", ""),
            (1292, "Truncated incorrect DOUBLE value: 'secret'", ""),
            (1690, "BIGINT value is out of range in '\"base\".\"t\".\"m\" + 9223372036854775807'", ""),
            (1644, "secret says no", ""),
        ] {
            let StoreError::Data(said) = classified(code, message) else { panic!("{code}: {message}") };
            assert!(said.starts_with(column) && !said.contains("secret") && !said.contains("922"), "{said}");
            assert_eq!(said.contains("column `"), !column.is_empty(), "{said}");
        }
    }

    #[test]
    fn a_warning_about_a_value_is_an_error_and_one_about_the_binary_log_is_ignored() {
        assert!(matches!(
            classify_warning(1265, "Data truncated for column 'p' at row 1"),
            Some(StoreError::Data(_))
        ));
        assert!(matches!(classify_warning(1234, "Anything else"), Some(StoreError::Blocked(_))));
        assert_eq!(classify_warning(1592, "Unsafe statement written to the binary log"), None);
    }
}

//! Sorts the errors of MySQL and MariaDB by what helps: trying again, passing one event by, or a person. No
//! row's value goes into a message: the server writes them into some of its own.

use mysql_async::{DriverError, Error, IoError, ServerError};

use super::repair_sql;
use crate::store::StoreError;

pub fn classify(error: Error) -> StoreError {
    match error {
        Error::Server(error) => of_server(&error),
        Error::Io(IoError::Tls(error)) => {
            StoreError::Blocked(format!("no encrypted connection to the database: {error}"))
        }
        Error::Io(IoError::Io(error)) if is_about_encryption(&error) => {
            StoreError::Blocked(format!("no encrypted connection to the database: {error}"))
        }
        Error::Io(IoError::Io(error)) => StoreError::Transient(format!("no connection to the database: {error}")),
        Error::Driver(DriverError::PacketTooLarge) => StoreError::Data(too_large()),
        Error::Driver(DriverError::NoClientSslFlagFromServer) => StoreError::Blocked(
            "the server offers no encrypted connections, and `ssl-mode` asks for one; switch them on there, or say `ssl-mode=DISABLED`"
                .to_owned(),
        ),
        Error::Driver(DriverError::ConnectionClosed | DriverError::PacketOutOfOrder) => {
            StoreError::Transient("the connection to the database is gone".to_owned())
        }
        Error::Driver(DriverError::UnknownAuthPlugin { name }) => {
            StoreError::Blocked(format!("the server asks for a way to log in that is not known here: {name}"))
        }
        // What these hold is the client's, and may be a row's.
        Error::Driver(DriverError::UnexpectedPacket { .. }) => {
            StoreError::Transient("the database answers what nobody can read".to_owned())
        }
        Error::Other(error) => StoreError::Blocked(error.to_string()),
        error => StoreError::Blocked(error.to_string()),
    }
}

/// A certificate that is not the right one, and not a connection that broke off.
fn is_about_encryption(error: &std::io::Error) -> bool {
    match error.get_ref() {
        Some(cause) => cause.is::<rustls::Error>(),
        None => false,
    }
}

pub fn too_large() -> String {
    "a row is larger than `max_allowed_packet` of the database".to_owned()
}

pub fn of_server(error: &ServerError) -> StoreError {
    match kind(error.code, &error.message) {
        Kind::Transient => StoreError::Transient(said(error)),
        Kind::Data(reason) => StoreError::Data(match column(&error.message) {
            Some(column) => format!("column `{column}`: {reason}"),
            None => reason.to_owned(),
        }),
        Kind::NoTable => StoreError::NoTable(table(&error.message)),
        Kind::Blocked => StoreError::Blocked(match granted(error) {
            Some(mend) => format!("{}; to fix it, run: {mend}", said(error)),
            None => said(error),
        }),
    }
}

/// Whether a warning says that a value was changed, or may have been, on its way in.
pub fn of_warning(code: u16, message: &str) -> Option<StoreError> {
    match code {
        // Nothing about values: a binary log by statements, words that a later version gives up.
        1592 | 1287 | 1681 | 3719 | 3778 => None,
        _ => match of_server(&ServerError { code, message: message.to_owned(), state: String::new() }) {
            // As an error it would have stopped the statement.
            StoreError::Transient(message) => Some(StoreError::Blocked(message)),
            error => Some(error),
        },
    }
}

fn said(error: &ServerError) -> String {
    format!("{} ({})", error.message, error.code)
}

/// Out of `INSERT command denied to user 'a'@'b' for table `base`.`t``, of which some versions leave the base
/// out: what gives the right back. The place that it names is not the account's, but the client's.
fn granted(error: &ServerError) -> Option<String> {
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
        // Somebody else is in the way, or too many are.
        1205 | 1213 | 1206 | 1020 | 3572 | 1040 | 1203 | 1226 | 1412 | 1615 | 1243 => Kind::Transient,
        // The server stops, starts, loses its cluster, hands over; somebody ended the session or statement.
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
        // Out of room.
        1021 | 1026 | 1037 | 1038 | 1041 | 1114 => Kind::Transient,
        1030 if message.contains(" 28 ") || message.contains("No space") => Kind::Transient,
        1146 => Kind::NoTable,
        _ => of_data(code).map_or(Kind::Blocked, Kind::Data),
    }
}

fn of_data(code: u16) -> Option<&'static str> {
    Some(match code {
        1264 | 1690 => "a number is larger than it takes",
        1406 => "a text is longer than it takes",
        1265 => "a value would be cut off",
        1366 | 1292 | 1411 | 1441 | 1367 | 1416 => "it does not take a value of this kind",
        1300 => "a text has letters that its character set does not know",
        1048 | 1263 | 1566 => "it must be given",
        1022 | 1062 | 1586 => "a unique key has this value already",
        1216 | 1217 | 1451 | 1452 => "a foreign key refuses the row",
        3819 | 4025 => "a check of the table refuses the row",
        1644 => "a trigger of the table refuses the row",
        3140 | 3141 | 3143 | 3156 | 3157 | 4037 | 4038 => "it takes JSON alone",
        1526 | 1591 => "no partition of the table is for this row",
        1118 | 1713 | 139 => "a row is larger than the table takes",
        1153 | 1301 => "a row is larger than `max_allowed_packet` of the database",
        _ => return None,
    })
}

/// The column that a message ends with; what stands before it may be a value.
fn column(message: &str) -> Option<&str> {
    let lowered = message.to_ascii_lowercase();
    let rest = &message[lowered.rfind("column ")? + "column ".len()..];
    let quote = rest.chars().next().filter(|quote| "'`\"".contains(*quote))?;
    // `base`.`table`.`column`, or the column alone.
    let rest = rest.rsplit_once(" at row").map_or(rest, |(names, _)| names);
    let names = rest[1..].split_once(' ').map_or(&rest[1..], |(names, _)| names);
    let names = names.strip_suffix(quote)?;
    let separator = format!("{quote}.{quote}");
    names.rsplit(separator.as_str()).next()
}

/// Out of `Table 'base.name' doesn't exist`.
fn table(message: &str) -> String {
    let name = message.split_once('\'').and_then(|(_, rest)| rest.rsplit_once("' ")).map(|(name, _)| name);
    let name = name.unwrap_or(message);
    name.split_once('.').map_or(name, |(_, table)| table).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: u16, message: &str) -> StoreError {
        of_server(&ServerError { code, message: message.to_owned(), state: String::new() })
    }

    #[test]
    fn errors_are_sorted_by_what_helps() {
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
            assert!(matches!(of(code, message), StoreError::Transient(_)), "{code}");
        }
        for (code, message) in [
            (1142, "INSERT command denied to user 'a'@'b' for table `base`.`t`"),
            (1054, "Unknown column 'x' in 'INSERT INTO'"),
            (1364, "Field 'x' doesn't have a default value"),
            (1290, "The MariaDB server is running with the --secure-file-priv option"),
            (9999, "Nobody knows this"),
        ] {
            assert!(matches!(of(code, message), StoreError::Blocked(_)), "{code}");
        }
        assert_eq!(of(1146, "Table 'base.users' doesn't exist"), StoreError::NoTable("users".to_owned()));
    }

    #[test]
    fn a_missing_right_is_named_with_the_sql_that_gives_it_back() {
        for (message, grant) in [
            (
                "INSERT, UPDATE command denied to user 'a'@'b' for table `base`.`t`",
                ": GRANT SELECT, INSERT, UPDATE, DELETE ON `base`.`t` TO `a`",
            ),
            ("DROP command denied to user 'a'@'b' for table 't'", ": GRANT DROP ON `t` TO `a`"),
        ] {
            let StoreError::Blocked(said) = of(1142, message) else { panic!("{message}") };
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
            let StoreError::Data(said) = of(code, message) else { panic!("{code}: {message}") };
            assert!(said.starts_with(column) && !said.contains("secret") && !said.contains("922"), "{said}");
            assert_eq!(said.contains("column `"), !column.is_empty(), "{said}");
        }
    }

    #[test]
    fn a_warning_about_a_value_is_an_error_and_one_about_the_binary_log_is_none() {
        assert!(matches!(
            of_warning(1265, "Data truncated for column 'p' at row 1"),
            Some(StoreError::Data(_))
        ));
        assert!(matches!(of_warning(1234, "Anything else"), Some(StoreError::Blocked(_))));
        assert_eq!(of_warning(1592, "Unsafe statement written to the binary log"), None);
    }
}

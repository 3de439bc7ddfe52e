//! Where a test's views are kept: in which of the databases, and a way to look into it, and change what is
//! there, as another program would.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::types::ValueRef;
use rusqlite::{Batch, Connection, Row};

use super::mariadb::Mariadb;
use super::postgres::Postgres;
use super::servers::Server;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    Sqlite,
    Postgres,
    Mariadb,
}

impl Keeping {
    /// `MILLRACE_TEST_STORE`: with it, tests of the whole run on another database than SQLite.
    pub fn of_environment() -> Self {
        match std::env::var("MILLRACE_TEST_STORE").as_deref() {
            Err(_) | Ok("" | "sqlite") => Self::Sqlite,
            Ok("postgres") => Self::Postgres,
            Ok("mariadb") => Self::Mariadb,
            Ok(other) => panic!("MILLRACE_TEST_STORE={other}: sqlite, postgres or mariadb"),
        }
    }

    /// The server that this process shares; none for SQLite.
    pub fn server(self) -> Option<&'static Server> {
        match self {
            Self::Sqlite => None,
            Self::Postgres => Some(Postgres::shared()),
            Self::Mariadb => Some(Mariadb::shared()),
        }
    }

    /// Of three ways to say something, that of this database.
    pub fn says<T>(self, [sqlite, postgres, mariadb]: [T; 3]) -> T {
        match self {
            Self::Sqlite => sqlite,
            Self::Postgres => postgres,
            Self::Mariadb => mariadb,
        }
    }
}

/// One database of a test's own.
#[derive(Clone)]
pub struct Stored {
    pub keeping: Keeping,
    /// SQLite's.
    file: PathBuf,
    /// Of a database on a server.
    url: String,
}

impl Stored {
    /// The one that belongs to a folder: whoever starts in it again finds it again.
    pub fn of_folder(keeping: Keeping, folder: &Path, file: &Path) -> Self {
        static URLS: Mutex<Option<HashMap<PathBuf, String>>> = Mutex::new(None);
        let url = keeping.server().map(|server| {
            let mut urls = URLS.lock().unwrap();
            let urls = urls.get_or_insert_default();
            urls.entry(folder.to_owned()).or_insert_with(|| server.new_database()).clone()
        });
        Self { keeping, file: file.to_owned(), url: url.unwrap_or_default() }
    }

    /// As `[store] url` has it.
    pub fn url(&self) -> String {
        match self.keeping {
            Keeping::Sqlite => format!("sqlite:{}", self.file.display()),
            Keeping::Postgres | Keeping::Mariadb => self.url.clone(),
        }
    }

    /// Carries out statements in words that all three understand, `"` around names and `||` between texts:
    /// rows as lines, columns with tabs between them, `NULL` where nothing is.
    pub fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).unwrap_or_else(|error| panic!("{sql}\n{error}"))
    }

    pub fn try_sql(&self, sql: &str) -> Result<String, String> {
        let ours = match self.keeping {
            Keeping::Mariadb => "SET sql_mode = concat(@@sql_mode, ',ANSI_QUOTES,PIPES_AS_CONCAT');\n",
            Keeping::Sqlite | Keeping::Postgres => "",
        };
        self.try_sql_as_it_is(&format!("{ours}{sql}"))
    }

    /// In the database's own words, as a person would type them there.
    pub fn sql_as_it_is(&self, sql: &str) -> String {
        self.try_sql_as_it_is(sql).unwrap_or_else(|error| panic!("{sql}\n{error}"))
    }

    fn try_sql_as_it_is(&self, sql: &str) -> Result<String, String> {
        match self.keeping.server() {
            Some(server) => server.try_sql(&self.url, sql),
            None => in_file(&self.connection(), sql).map_err(|error| error.to_string()),
        }
    }

    /// What SQLite alone has.
    pub fn connection(&self) -> Connection {
        assert_eq!(self.keeping, Keeping::Sqlite, "there is no file");
        let connection = Connection::open(&self.file).unwrap();
        connection.busy_timeout(super::PATIENCE).unwrap();
        connection
    }
}

fn in_file(connection: &Connection, sql: &str) -> rusqlite::Result<String> {
    let mut lines = Vec::new();
    let mut batch = Batch::new(connection, sql);
    while let Some(mut statement) = batch.next()? {
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let texts: Vec<String> = (0..columns).map(|index| text(row, index)).collect();
            lines.push(texts.join("\t"));
        }
    }
    Ok(lines.join("\n"))
}

fn text(row: &Row<'_>, index: usize) -> String {
    match row.get_ref(index).unwrap() {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(value) => value.to_string(),
        ValueRef::Real(value) => value.to_string(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        ValueRef::Blob(bytes) => format!("{} bytes", bytes.len()),
    }
}

//! MySQL and MariaDB as the store: the server's address, and one connection to it. `verbs.rs` and `numbered_rows.rs`
//! write rows, `tables.rs` creates tables, and `shape.rs` checks existing ones.

mod catalogue;
mod cells;
mod connect;
mod errors;
mod numbered_rows;
mod preflight;
mod repair_sql;
mod rights;
mod row_statements;
mod shape;
mod sql_views;
mod statements;
mod tables;
#[cfg(test)]
#[allow(clippy::unwrap_used, dead_code)]
mod test_server;
mod url;
mod verbs;

use std::sync::atomic::AtomicBool;

use event::limits::MYSQL_LOCK_WAIT_DURATION_MAX;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Params, Value};
use sha2::{Digest, Sha256};

use crate::store::StoreError;
use crate::store::cell::Cell;
use crate::store::remote::begin::Begin;
use crate::store::remote::password::Password;
use crate::store::remote::statement_timeout::StatementTimeout;
use errors::classify;
use url::Address;

pub use sql_views::sql_view_query;

/// The time in milliseconds since 1970.
pub const NOW_SQL: &str = "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)";

pub struct Server {
    address: Address,
    password: Password,
    /// The server offered no encryption before, so `PREFERRED` does not ask for it again.
    no_encryption: AtomicBool,
}

/// One connection. If it is dropped during a statement, it is closed and the server rolls back.
pub struct Session {
    conn: Conn,
    flavour: Flavour,
    packet_bytes_max: usize,
    skips_locked_rows: bool,
    database: String,
    /// Set after an error: the server may have rolled back the transaction or a part of it.
    transaction_failed: bool,
    pub statement_timeout: StatementTimeout,
}

/// The server's result of a statement that writes.
pub struct WriteResult {
    /// Matched rows, changed or not.
    matched: u64,
    /// The number that the server gave to the first inserted row.
    first_id: Option<u64>,
}

/// The two databases: they share a protocol and differ in some SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    Mysql,
    Mariadb,
}

impl Flavour {
    /// Returns the collation that compares byte for byte, including trailing spaces.
    pub fn collation(self) -> &'static str {
        match self {
            Self::Mysql => "utf8mb4_0900_bin",
            Self::Mariadb => "utf8mb4_nopad_bin",
        }
    }
}

impl Server {
    pub fn parse(url: &str, password: &Password) -> Result<Self, String> {
        Ok(Self {
            address: Address::parse(url)?,
            password: password.clone(),
            no_encryption: AtomicBool::new(false),
        })
    }

    /// Returns the address for messages, without a password.
    pub fn name(&self) -> String {
        self.address.to_string()
    }
}

impl Session {
    /// Returns whether the server can leave out rows that somebody else has locked: MariaDB only since 10.6.
    pub fn skips_locked_rows(&self) -> bool {
        self.skips_locked_rows
    }

    pub async fn begin(&mut self, begin: Begin) -> Result<(), StoreError> {
        match begin {
            Begin::Writing => self.run("START TRANSACTION READ WRITE").await,
            Begin::Reading => {
                // Applies only to the next transaction; without it there is no snapshot.
                self.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
                self.run("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY").await
            }
        }
    }

    pub async fn commit(&mut self) -> Result<(), StoreError> {
        if self.transaction_failed {
            return Err(StoreError::Transient(
                "the transaction failed before and cannot be committed".to_owned(),
            ));
        }
        self.run("COMMIT").await
    }

    pub async fn rollback(&mut self) -> Result<(), StoreError> {
        self.run("ROLLBACK").await?;
        self.transaction_failed = false;
        Ok(())
    }

    pub async fn rows(&mut self, sql: &str, parameters: &[Cell]) -> Result<Vec<Vec<Cell>>, StoreError> {
        let sql = statements::with_exact_decimals(sql, parameters);
        let parameters = parameters.iter().map(cells::value).collect::<Result<_, _>>()?;
        self.read(&sql, parameters).await
    }

    pub async fn change(&mut self, sql: &str, parameters: &[Cell]) -> Result<u64, StoreError> {
        let sql = statements::with_exact_decimals(sql, parameters);
        let parameters = parameters.iter().map(cells::value).collect::<Result<_, _>>()?;
        self.write(&sql, parameters).await.map(|result| result.matched)
    }

    pub async fn lock(&mut self, name: &str) -> Result<(), StoreError> {
        let parameters =
            vec![Value::from(self.lock_name(name)), Value::from(MYSQL_LOCK_WAIT_DURATION_MAX.as_secs())];
        let rows = self.read("SELECT GET_LOCK(?, ?)", parameters).await?;
        match rows.first().and_then(|row| row.first()) {
            Some(Cell::Integer(1)) => Ok(()),
            _ => {
                Err(StoreError::Transient(format!("another session holds the lock `{name}` of the database")))
            }
        }
    }

    pub async fn unlock(&mut self, name: &str) -> Result<(), StoreError> {
        let name = Value::from(self.lock_name(name));
        self.read("SELECT RELEASE_LOCK(?)", vec![name]).await.map(drop)
    }

    /// Returns a short name that is unique to the database: the server's locks are global, and their names are
    /// limited.
    fn lock_name(&self, name: &str) -> String {
        let mut hash = Sha256::new();
        hash.update(self.database.as_bytes());
        hash.update([0]);
        hash.update(name.as_bytes());
        let hex = event::hex(&hash.finalize()[..16]);
        format!("millrace_{hex}")
    }

    /// Runs a statement without parameters and without preparing it: transaction control and table definitions.
    async fn run(&mut self, sql: &str) -> Result<(), StoreError> {
        let outcome = self.statement_timeout.wait(self.conn.query_drop(sql)).await?;
        self.checked(outcome)
    }

    async fn read(&mut self, sql: &str, parameters: Vec<Value>) -> Result<Vec<Vec<Cell>>, StoreError> {
        let read = self.conn.exec::<mysql_async::Row, _, _>(sql, Params::Positional(parameters));
        let outcome = self.statement_timeout.wait(read).await?;
        Ok(self.checked(outcome)?.into_iter().map(cells::row).collect())
    }

    /// Runs a statement that writes. A warning is an error: the server warns if it stored another value than the
    /// given one.
    async fn write(&mut self, sql: &str, parameters: Vec<Value>) -> Result<WriteResult, StoreError> {
        let write = self.conn.exec_drop(sql, Params::Positional(parameters));
        let outcome = self.statement_timeout.wait(write).await?;
        self.checked(outcome)?;
        let result = WriteResult { matched: self.conn.affected_rows(), first_id: self.conn.last_insert_id() };
        if self.conn.get_warnings() > 0 {
            self.check_warnings().await?;
        }
        Ok(result)
    }

    async fn check_warnings(&mut self) -> Result<(), StoreError> {
        let warnings = self.conn.query::<(String, u16, String), _>("SHOW WARNINGS");
        let outcome = self.statement_timeout.wait(warnings).await?;
        for (_, code, message) in self.checked(outcome)? {
            if let Some(error) = errors::classify_warning(code, &message) {
                self.transaction_failed = true;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Classifies an error and marks the transaction as failed.
    fn checked<T>(&mut self, outcome: mysql_async::Result<T>) -> Result<T, StoreError> {
        outcome.map_err(|error| {
            self.transaction_failed = true;
            classify(error)
        })
    }
}

//! MySQL and MariaDB as the store: where the server is, and one connection to it. The verbs over rows are
//! `verbs.rs` and `numbered.rs`, tables are made by `tables.rs` and looked at by `shape.rs`.

mod catalogue;
mod cells;
mod connect;
mod errors;
mod numbered_rows;
mod preflight;
mod repair_sql;
mod row_statements;
mod shape;
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
use crate::store::remote::{Begin, Password, Patience};
use crate::store::tables::Cell;
use errors::classify;
use url::Address;

pub struct Server {
    address: Address,
    password: Password,
    /// Whether it was found to offer no encryption, so that `PREFERRED` need not ask each time.
    plain: AtomicBool,
}

/// One connection. Dropped in the middle of a statement it is closed, and the server rolls back.
pub struct Session {
    conn: Conn,
    flavour: Flavour,
    packet_bytes_max: usize,
    database: String,
    /// After an error a transaction may be gone, or half of it.
    corrupt_row: bool,
    pub patience: Patience,
}

/// What the server said of a statement that writes.
struct Told {
    /// Rows, whether they were changed or not.
    met: u64,
    /// The number that it gave to the first of them.
    first: Option<u64>,
}

/// Two databases that speak one protocol, and differ in a few words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    Mysql,
    Mariadb,
}

impl Flavour {
    /// Byte for byte, the spaces at the end included.
    pub fn collation(self) -> &'static str {
        match self {
            Self::Mysql => "utf8mb4_0900_bin",
            Self::Mariadb => "utf8mb4_nopad_bin",
        }
    }
}

impl Server {
    pub fn parse(url: &str, password: &Password) -> Result<Self, String> {
        Ok(Self { address: Address::parse(url)?, password: password.clone(), plain: AtomicBool::new(false) })
    }

    /// For people, without a password.
    pub fn name(&self) -> String {
        self.address.to_string()
    }
}

impl Session {
    pub async fn begin(&mut self, begin: Begin) -> Result<(), StoreError> {
        match begin {
            Begin::Writing => self.run("START TRANSACTION READ WRITE").await,
            Begin::Reading => {
                // Of the next transaction alone; without it there is no snapshot.
                self.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
                self.run("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY").await
            }
        }
    }

    pub async fn commit(&mut self) -> Result<(), StoreError> {
        if self.corrupt_row {
            return Err(StoreError::Transient("a transaction that failed is not committed".to_owned()));
        }
        self.run("COMMIT").await
    }

    pub async fn rollback(&mut self) -> Result<(), StoreError> {
        self.run("ROLLBACK").await?;
        self.corrupt_row = false;
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
        self.write(&sql, parameters).await.map(|told| told.met)
    }

    pub async fn lock(&mut self, name: &str) -> Result<(), StoreError> {
        let parameters =
            vec![Value::from(self.lock_name(name)), Value::from(MYSQL_LOCK_WAIT_DURATION_MAX.as_secs())];
        let rows = self.read("SELECT GET_LOCK(?, ?)", parameters).await?;
        match rows.first().and_then(|row| row.first()) {
            Some(Cell::Integer(1)) => Ok(()),
            _ => Err(StoreError::Transient(format!("somebody else holds the lock `{name}` of the database"))),
        }
    }

    pub async fn unlock(&mut self, name: &str) -> Result<(), StoreError> {
        let name = Value::from(self.lock_name(name));
        self.read("SELECT RELEASE_LOCK(?)", vec![name]).await.map(drop)
    }

    /// Such locks are the whole server's, and their names short.
    fn lock_name(&self, name: &str) -> String {
        let mut hash = Sha256::new();
        hash.update(self.database.as_bytes());
        hash.update([0]);
        hash.update(name.as_bytes());
        let hex = event::hex(&hash.finalize()[..16]);
        format!("millrace_{hex}")
    }

    /// Without parameters, and not prepared: transactions, and what makes tables.
    async fn run(&mut self, sql: &str) -> Result<(), StoreError> {
        let outcome = self.patience.wait(self.conn.query_drop(sql)).await?;
        self.settled(outcome)
    }

    async fn read(&mut self, sql: &str, parameters: Vec<Value>) -> Result<Vec<Vec<Cell>>, StoreError> {
        let read = self.conn.exec::<mysql_async::Row, _, _>(sql, Params::Positional(parameters));
        let outcome = self.patience.wait(read).await?;
        Ok(self.settled(outcome)?.into_iter().map(cells::row).collect())
    }

    /// A warning is an error: the server gives one where it put another value into a row than it was given.
    async fn write(&mut self, sql: &str, parameters: Vec<Value>) -> Result<Told, StoreError> {
        let write = self.conn.exec_drop(sql, Params::Positional(parameters));
        let outcome = self.patience.wait(write).await?;
        self.settled(outcome)?;
        let told = Told { met: self.conn.affected_rows(), first: self.conn.last_insert_id() };
        if self.conn.get_warnings() > 0 {
            self.look_at_warnings().await?;
        }
        Ok(told)
    }

    async fn look_at_warnings(&mut self) -> Result<(), StoreError> {
        let look = self.conn.query::<(String, u16, String), _>("SHOW WARNINGS");
        let outcome = self.patience.wait(look).await?;
        for (_, code, message) in self.settled(outcome)? {
            if let Some(error) = errors::of_warning(code, &message) {
                self.corrupt_row = true;
                return Err(error);
            }
        }
        Ok(())
    }

    fn settled<T>(&mut self, outcome: mysql_async::Result<T>) -> Result<T, StoreError> {
        outcome.map_err(|error| {
            self.corrupt_row = true;
            classify(error)
        })
    }
}

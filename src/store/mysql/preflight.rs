//! Checks a server before use: its version, and whether it keeps what it commits. Creates the database if it is
//! missing and that is allowed.

use mysql_async::prelude::Queryable;
use mysql_async::{Error, Params};

use super::errors::classify;
use super::url::Encryption;
use super::{Flavour, Server, Session, repair_sql};
use crate::store::StoreError;
use crate::store::cell::Cell;

impl Server {
    pub async fn preflight(&self) -> Result<Vec<String>, StoreError> {
        let mut session = match self.open(Some(&self.address.database)).await {
            Ok(conn) => self.set_up(conn).await.map_err(classify)?,
            Err(Error::Server(error)) if [1044, 1049].contains(&error.code) => {
                self.create_database().await.map_err(|failure| match failure {
                    Error::Server(failure) if failure.code == 1044 => {
                        self.connect_error(Error::Server(error))
                    }
                    failure => self.connect_error(failure),
                })?;
                self.connect().await?
            }
            Err(error) => return Err(self.connect_error(error)),
        };
        self.check_settings(&mut session).await
    }

    /// Opens a session, or returns `None` if the database does not exist.
    pub async fn connect_to_existing(&self) -> Result<Option<Session>, StoreError> {
        match self.open(Some(&self.address.database)).await {
            Ok(conn) => self.set_up(conn).await.map(Some).map_err(classify),
            Err(Error::Server(error)) if error.code == 1049 => Ok(None),
            Err(error) => Err(self.connect_error(error)),
        }
    }

    /// Fails if millrace cannot work with the server, and returns warnings.
    pub async fn check_settings(&self, session: &mut Session) -> Result<Vec<String>, StoreError> {
        session.check_version().await?;
        session.check_binary_log().await?;
        let mut warnings = session.durability().await?;
        if !self.address.is_local() && !session.is_encrypted().await? {
            warnings.push(format!(
                "the connection to {} is not encrypted; set `ssl-mode=VERIFY_IDENTITY` in `[store] url`",
                self.address.host
            ));
        } else if !self.address.is_local() && self.address.encryption < Encryption::VerifyCa {
            warnings.push(format!(
                "the certificate of {} is not verified; set `ssl-mode=VERIFY_IDENTITY` in `[store] url`",
                self.address.host
            ));
        }
        Ok(warnings)
    }

    async fn create_database(&self) -> Result<(), Error> {
        let mut conn = self.open(None).await?;
        let name = repair_sql::name(&self.address.database);
        conn.query_drop(format!("CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET utf8mb4")).await
    }
}

impl Session {
    async fn check_version(&mut self) -> Result<(), StoreError> {
        let version = self.text_row("SELECT VERSION()").await?.into_iter().next().unwrap_or_default();
        if !is_too_old(&version, self.flavour) {
            Ok(())
        } else {
            Err(StoreError::Blocked(format!(
                "the server runs version {version}; millrace needs MySQL 8.0.19 or newer, or MariaDB 10.5 or newer"
            )))
        }
    }

    /// Fails if the binary log records statements: it cannot describe millrace's transactions, so the server refuses
    /// them.
    async fn check_binary_log(&mut self) -> Result<(), StoreError> {
        let settings = self.text_row("SELECT @@log_bin, @@global.binlog_format").await?;
        match settings.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["1", "STATEMENT"] => Err(StoreError::Blocked(
                "the server's binary log records statements, which millrace cannot work with; to fix it, run: SET GLOBAL binlog_format = 'ROW'"
                    .to_owned(),
            )),
            _ => Ok(()),
        }
    }

    async fn durability(&mut self) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT @@innodb_flush_log_at_trx_commit, @@log_bin, @@sync_binlog, @@innodb_doublewrite, @@default_storage_engine";
        let settings = self.text_row(sql).await?;
        let [flush, log, sync, twice, engine] = settings.as_slice() else { return Ok(Vec::new()) };
        let mut warnings = Vec::new();
        let mut warn = |setting: &str, risk: &str| warnings.push(format!("`{setting}`: {risk}"));
        if flush != "1" {
            let setting = format!("innodb_flush_log_at_trx_commit = {flush}");
            warn(&setting, "a power failure can lose the latest commits; set it to 1");
        }
        if log == "1" && sync == "0" {
            warn(
                "sync_binlog = 0",
                "after a power failure the binary log can be behind the tables; set it to 1",
            );
        }
        if ["0", "OFF"].contains(&twice.as_str()) {
            warn(
                "innodb_doublewrite = OFF",
                "a page that is half written at a power failure cannot be repaired; set it to ON",
            );
        }
        if engine != "InnoDB" {
            let setting = format!("default_storage_engine = {engine}");
            warn(
                &setting,
                "tables that other programs create may not be transactional, and views cannot use those; set it to InnoDB",
            );
        }
        Ok(warnings)
    }

    async fn is_encrypted(&mut self) -> Result<bool, StoreError> {
        let status = self.text_row("SHOW SESSION STATUS LIKE 'Ssl_cipher'").await?;
        Ok(status.get(1).is_some_and(|cipher| !cipher.is_empty()))
    }

    /// Returns the first row of a result, as text.
    async fn text_row(&mut self, sql: &str) -> Result<Vec<String>, StoreError> {
        let query = self.conn.exec::<mysql_async::Row, _, _>(sql, Params::Empty);
        let outcome = self.statement_timeout.wait(query).await?;
        let first = self.checked(outcome)?.into_iter().next().map(super::cells::row);
        let text = |cell: Cell| match cell {
            Cell::Text(text) => text,
            Cell::Integer(number) => number.to_string(),
            _ => String::new(),
        };
        Ok(first.into_iter().flatten().map(text).collect())
    }
}

/// Returns the numbers of a version.
pub fn numbers(version: &str) -> (u32, u32, u32) {
    // Some servers send this prefix for old clients.
    let version = version.strip_prefix("5.5.5-").unwrap_or(version);
    let mut numbers =
        version.split(|character: char| !character.is_ascii_digit()).map_while(|part| part.parse().ok());
    let mut next = || numbers.next().unwrap_or(0_u32);
    (next(), next(), next())
}

fn is_too_old(version: &str, flavour: Flavour) -> bool {
    let version = numbers(version);
    match flavour {
        Flavour::Mysql => version < (8, 0, 19),
        Flavour::Mariadb => version < (10, 5, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_both_databases_are_parsed() {
        for (version, flavour, old) in [
            ("8.0.36-0ubuntu0.22.04.1", Flavour::Mysql, false),
            ("8.0.18", Flavour::Mysql, true),
            ("8.4.0", Flavour::Mysql, false),
            ("5.7.44-log", Flavour::Mysql, true),
            ("10.11.6-MariaDB-0+deb12u1", Flavour::Mariadb, false),
            ("5.5.5-10.4.32-MariaDB", Flavour::Mariadb, true),
            ("11.4.2-MariaDB", Flavour::Mariadb, false),
        ] {
            assert_eq!(is_too_old(version, flavour), old, "{version}");
        }
    }
}

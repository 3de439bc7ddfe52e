//! The look at a server before anything is kept in it: its version, whether it keeps what it commits, and
//! the database itself, which is made where that is allowed.

use mysql_async::prelude::Queryable;
use mysql_async::{Error, Params};

use super::errors::classify;
use super::url::Encryption;
use super::{Flavour, Server, Session, repair_sql};
use crate::store::StoreError;
use crate::store::tables::Cell;

impl Server {
    pub async fn look(&self) -> Result<Vec<String>, StoreError> {
        let mut session = match self.open(Some(&self.address.database)).await {
            Ok(conn) => self.set_up(conn).await.map_err(classify)?,
            Err(Error::Server(error)) if [1044, 1049].contains(&error.code) => {
                self.make_database().await.map_err(|failure| match failure {
                    Error::Server(failure) if failure.code == 1044 => self.refused(Error::Server(error)),
                    failure => self.refused(failure),
                })?;
                self.connect().await?
            }
            Err(error) => return Err(self.refused(error)),
        };
        session.check_version().await?;
        session.check_binary_log().await?;
        let mut warnings = session.durability().await?;
        if !self.address.is_local() && !session.is_encrypted().await? {
            warnings.push(format!(
                "what goes to {} is not encrypted; `ssl-mode=VERIFY_IDENTITY` in `[store] url` has it so",
                self.address.host
            ));
        } else if !self.address.is_local() && self.address.encryption < Encryption::VerifyCa {
            warnings.push(format!(
                "the certificate of {} is not checked; `ssl-mode=VERIFY_IDENTITY` in `[store] url` has it so",
                self.address.host
            ));
        }
        Ok(warnings)
    }

    async fn make_database(&self) -> Result<(), Error> {
        let mut conn = self.open(None).await?;
        let name = repair_sql::name(&self.address.database);
        conn.query_drop(format!("CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET utf8mb4")).await
    }
}

impl Session {
    async fn check_version(&mut self) -> Result<(), StoreError> {
        let version = self.words("SELECT VERSION()").await?.into_iter().next().unwrap_or_default();
        match is_too_old(&version, self.flavour) {
            false => Ok(()),
            true => Err(StoreError::Blocked(format!(
                "the database is {version}; MySQL from 8.0.19 on and MariaDB from 10.5 on are understood"
            ))),
        }
    }

    /// A log of statements cannot say what a transaction of ours does, and refuses it.
    async fn check_binary_log(&mut self) -> Result<(), StoreError> {
        let settings = self.words("SELECT @@log_bin, @@global.binlog_format").await?;
        match settings.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["1", "STATEMENT"] => Err(StoreError::Blocked(
                "the server's binary log is one of statements; to fix it, run: SET GLOBAL binlog_format = 'ROW'"
                    .to_owned(),
            )),
            _ => Ok(()),
        }
    }

    async fn durability(&mut self) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT @@innodb_flush_log_at_trx_commit, @@log_bin, @@sync_binlog, @@innodb_doublewrite, @@default_storage_engine";
        let settings = self.words(sql).await?;
        let [flush, log, sync, twice, engine] = settings.as_slice() else { return Ok(Vec::new()) };
        let mut warnings = Vec::new();
        let mut warn = |setting: &str, lost: &str| warnings.push(format!("`{setting}`: {lost}"));
        if flush != "1" {
            let setting = format!("innodb_flush_log_at_trx_commit = {flush}");
            warn(&setting, "what was committed last may be lost with the machine's power, and 1 keeps it");
        }
        if log == "1" && sync == "0" {
            warn(
                "sync_binlog = 0",
                "after a loss of power the binary log may be behind the tables, and 1 keeps it",
            );
        }
        if ["0", "OFF"].contains(&twice.as_str()) {
            warn("innodb_doublewrite = OFF", "a page half written at a loss of power is not mended");
        }
        if engine != "InnoDB" {
            let setting = format!("default_storage_engine = {engine}");
            warn(&setting, "tables that others make may not be transactional, and no view can use those");
        }
        Ok(warnings)
    }

    async fn is_encrypted(&mut self) -> Result<bool, StoreError> {
        let status = self.words("SHOW SESSION STATUS LIKE 'Ssl_cipher'").await?;
        Ok(status.get(1).is_some_and(|cipher| !cipher.is_empty()))
    }

    /// The first row of an answer, as text.
    async fn words(&mut self, sql: &str) -> Result<Vec<String>, StoreError> {
        let look = self.conn.exec::<mysql_async::Row, _, _>(sql, Params::Empty);
        let outcome = self.patience.wait(look).await?;
        let first = self.settled(outcome)?.into_iter().next().map(super::cells::row);
        let text = |cell: Cell| match cell {
            Cell::Text(text) => text,
            Cell::Integer(number) => number.to_string(),
            _ => String::new(),
        };
        Ok(first.into_iter().flatten().map(text).collect())
    }
}

fn is_too_old(version: &str, flavour: Flavour) -> bool {
    // Some servers say this first, for clients of old.
    let version = version.strip_prefix("5.5.5-").unwrap_or(version);
    let mut numbers =
        version.split(|letter: char| !letter.is_ascii_digit()).map_while(|part| part.parse().ok());
    let mut next = || numbers.next().unwrap_or(0_u32);
    let version = (next(), next(), next());
    match flavour {
        Flavour::Mysql => version < (8, 0, 19),
        Flavour::Mariadb => version < (10, 5, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_both_write_them() {
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

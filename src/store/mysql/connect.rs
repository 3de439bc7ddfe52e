//! Opens a connection and sets it up as the promises need it: strict, in UTC, comparing byte for byte.

use std::sync::atomic::Ordering;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, DriverError, Error, OptsBuilder, SslOpts};

use super::errors::sorted;
use super::url::Encryption;
use super::{Flavour, Server, Session};
use crate::event::limits::{
    MYSQL_CONNECT_DURATION_MAX, MYSQL_IDLE_TRANSACTION_DURATION_MAX, MYSQL_KEEPALIVE_INTERVAL,
    MYSQL_LOCK_WAIT_DURATION_MAX, MYSQL_STATEMENTS_KEPT_MAX,
};
use crate::store::StoreError;

/// What keeps values as they were given, or refuses them.
const SQL_MODE: &str = "ANSI_QUOTES,STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION";

impl Server {
    pub async fn connect(&self) -> Result<Session, StoreError> {
        let conn = self.open(Some(&self.address.database)).await.map_err(|error| self.refused(error))?;
        self.set_up(conn).await.map_err(sorted)
    }

    /// A connection as the server gives it.
    pub(super) async fn open(&self, database: Option<&str>) -> Result<Conn, Error> {
        let encrypted = match self.address.encryption {
            Encryption::Disabled => false,
            Encryption::Preferred => !self.plain.load(Ordering::Relaxed) && self.address.socket.is_none(),
            _ => true,
        };
        match self.open_as(database, encrypted).await {
            Err(Error::Driver(DriverError::NoClientSslFlagFromServer))
                if self.address.encryption == Encryption::Preferred =>
            {
                self.plain.store(true, Ordering::Relaxed);
                self.open_as(database, false).await
            }
            outcome => outcome,
        }
    }

    async fn open_as(&self, database: Option<&str>, encrypted: bool) -> Result<Conn, Error> {
        let address = &self.address;
        let options = OptsBuilder::default()
            .ip_or_hostname(address.host.clone())
            .tcp_port(address.port)
            .socket(address.socket.clone())
            .prefer_socket(false)
            .user(Some(address.user.clone()).filter(|user| !user.is_empty()))
            .pass(address.password.clone())
            .db_name(database)
            .tcp_keepalive(Some(MYSQL_KEEPALIVE_INTERVAL))
            .stmt_cache_size(MYSQL_STATEMENTS_KEPT_MAX)
            .client_found_rows(true)
            .ssl_opts(encrypted.then(|| self.encryption()));
        match tokio::time::timeout(MYSQL_CONNECT_DURATION_MAX, Conn::new(options)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::from(std::io::Error::from(std::io::ErrorKind::TimedOut))),
        }
    }

    fn encryption(&self) -> SslOpts {
        let roots = self.address.authority.iter().map(|file| std::path::PathBuf::from(file).into());
        SslOpts::default()
            .with_disable_built_in_roots(self.address.authority.is_some())
            .with_root_certs(roots.collect())
            .with_danger_accept_invalid_certs(self.address.encryption < Encryption::VerifyCa)
            .with_danger_skip_domain_validation(self.address.encryption < Encryption::VerifyIdentity)
    }

    pub(super) async fn set_up(&self, mut conn: Conn) -> Result<Session, Error> {
        let (version, packet_bytes_max): (String, u64) =
            conn.query_first("SELECT VERSION(), @@max_allowed_packet").await?.unwrap_or_default();
        let flavour = match version.to_ascii_lowercase().contains("mariadb") {
            true => Flavour::Mariadb,
            false => Flavour::Mysql,
        };
        conn.query_drop(format!("SET NAMES utf8mb4 COLLATE {}", flavour.collation())).await?;
        conn.query_drop(settings(flavour)).await?;
        conn.query_drop("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
        Ok(Session {
            conn,
            flavour,
            packet_bytes_max: usize::try_from(packet_bytes_max).unwrap_or(usize::MAX),
            database: self.address.database.clone(),
            spoilt: false,
        })
    }

    /// Why a connection did not come about, in words that say what to do where a person has to.
    pub(super) fn refused(&self, error: Error) -> StoreError {
        let (user, database) = (&self.address.user, &self.address.database);
        let Error::Server(server) = &error else { return sorted(error) };
        match server.code {
            1045 | 1698 => StoreError::Blocked(format!(
                "the database does not let `{user}` in with this password; mend user or password in `[store] url`"
            )),
            1044 | 1049 => StoreError::Blocked(format!(
                "there is no database `{database}`, or `{user}` may not use it; this mends it: CREATE DATABASE IF NOT EXISTS {name}; GRANT ALL PRIVILEGES ON {name}.* TO {user}",
                name = super::mends::name(database),
                user = super::mends::name(user),
            )),
            _ => sorted(error),
        }
    }
}

fn settings(flavour: Flavour) -> String {
    // A time is cut to what its column holds, and not rounded into the next second.
    let (mode, own) = match flavour {
        Flavour::Mysql => (",TIME_TRUNCATE_FRACTIONAL", String::new()),
        // A writer that stands still, and not only its connection, is not to keep rows locked for ever.
        Flavour::Mariadb => {
            let idle = MYSQL_IDLE_TRANSACTION_DURATION_MAX.as_secs();
            ("", format!(", idle_write_transaction_timeout = {idle}"))
        }
    };
    let wait = MYSQL_LOCK_WAIT_DURATION_MAX.as_secs();
    format!(
        "SET SESSION sql_mode = '{SQL_MODE}{mode}', time_zone = '+00:00', lc_messages = 'en_US', autocommit = 1, \
         innodb_lock_wait_timeout = {wait}, lock_wait_timeout = {wait}, wait_timeout = 28800, sql_notes = 1, \
         max_error_count = 64, foreign_key_checks = 1, unique_checks = 1{own}"
    )
}

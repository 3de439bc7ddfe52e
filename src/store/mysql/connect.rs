//! Opens a connection and sets up the session: strict SQL mode, UTC, byte-for-byte comparison.

use std::sync::atomic::Ordering;

use event::limits::{
    MYSQL_CONNECT_DURATION_MAX, MYSQL_IDLE_TRANSACTION_DURATION_MAX, MYSQL_KEEPALIVE_INTERVAL,
    MYSQL_LOCK_WAIT_DURATION_MAX, MYSQL_STATEMENTS_KEPT_MAX,
};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, DriverError, Error, OptsBuilder, SslOpts};

use super::errors::classify;
use super::url::Encryption;
use super::{Flavour, Server, Session};
use crate::store::StoreError;
use crate::store::remote::statement_timeout::StatementTimeout;

/// Makes the server store a value unchanged or refuse it.
const SQL_MODE: &str = "ANSI_QUOTES,STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION";

/// The host name passed to TLS so that a valid certificate for any name is accepted. The client library recognises a
/// wrong name by this word in the error message. TLS now words the message differently, but includes the expected
/// name.
const ANY_NAME: &str = "NotValidForName";

/// The server's errors for a wrong user or password.
const LOGIN_REFUSED: [u16; 2] = [1045, 1698];

impl Server {
    pub async fn connect(&self) -> Result<Session, StoreError> {
        let conn =
            self.open(Some(&self.address.database)).await.map_err(|error| self.connect_error(error))?;
        self.set_up(conn).await.map_err(classify)
    }

    /// Opens a connection without setting it up. If the login is refused, tries again with a changed password.
    pub(super) async fn open(&self, database: Option<&str>) -> Result<Conn, Error> {
        let tried = self.password.or(self.address.password.as_deref());
        match self.open_once(database).await {
            Err(Error::Server(error))
                if LOGIN_REFUSED.contains(&error.code)
                    && self.password.reload_differs_from(tried.as_deref()).await =>
            {
                self.open_once(database).await
            }
            outcome => outcome,
        }
    }

    async fn open_once(&self, database: Option<&str>) -> Result<Conn, Error> {
        let encrypted = match self.address.encryption {
            Encryption::Disabled => false,
            Encryption::Preferred => {
                !self.no_encryption.load(Ordering::Relaxed) && self.address.socket.is_none()
            }
            _ => true,
        };
        match self.open_as(database, encrypted).await {
            Err(Error::Driver(DriverError::NoClientSslFlagFromServer))
                if self.address.encryption == Encryption::Preferred =>
            {
                self.no_encryption.store(true, Ordering::Relaxed);
                self.open_as(database, false).await
            }
            outcome => outcome,
        }
    }

    async fn open_as(&self, database: Option<&str>, encrypted: bool) -> Result<Conn, Error> {
        let address = &self.address;
        let encryption = if encrypted { Some(self.encryption().await?) } else { None };
        let options = OptsBuilder::default()
            .ip_or_hostname(address.host.clone())
            .tcp_port(address.port)
            .socket(address.socket.clone())
            .prefer_socket(false)
            .user(Some(address.user.clone()).filter(|user| !user.is_empty()))
            .pass(self.password.or(address.password.as_deref()))
            .db_name(database)
            .tcp_keepalive(Some(MYSQL_KEEPALIVE_INTERVAL))
            .stmt_cache_size(MYSQL_STATEMENTS_KEPT_MAX)
            .client_found_rows(true)
            .ssl_opts(encryption);
        match tokio::time::timeout(MYSQL_CONNECT_DURATION_MAX, Conn::new(options)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::from(std::io::Error::from(std::io::ErrorKind::TimedOut))),
        }
    }

    async fn encryption(&self) -> Result<SslOpts, Error> {
        let roots = match self.address.ca_file.clone() {
            Some(file) => vec![read(file).await?.into()],
            None => Vec::new(),
        };
        let any_name = self.address.encryption == Encryption::VerifyCa;
        Ok(SslOpts::default()
            .with_danger_tls_hostname_override(any_name.then_some(ANY_NAME))
            .with_disable_built_in_roots(!roots.is_empty())
            .with_root_certs(roots)
            .with_danger_accept_invalid_certs(self.address.encryption < Encryption::VerifyCa)
            .with_danger_skip_domain_validation(self.address.encryption < Encryption::VerifyIdentity))
    }

    pub(super) async fn set_up(&self, mut conn: Conn) -> Result<Session, Error> {
        let (version, packet_bytes_max): (String, u64) =
            conn.query_first("SELECT VERSION(), @@max_allowed_packet").await?.unwrap_or_default();
        let flavour =
            if version.to_ascii_lowercase().contains("mariadb") { Flavour::Mariadb } else { Flavour::Mysql };
        let skips_locked_rows =
            flavour == Flavour::Mysql || super::preflight::numbers(&version) >= (10, 6, 0);
        conn.query_drop(format!("SET NAMES utf8mb4 COLLATE {}", flavour.collation())).await?;
        conn.query_drop(settings(flavour)).await?;
        conn.query_drop("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
        Ok(Session {
            conn,
            flavour,
            packet_bytes_max: usize::try_from(packet_bytes_max).unwrap_or(usize::MAX),
            skips_locked_rows,
            database: self.address.database.clone(),
            transaction_failed: false,
            statement_timeout: StatementTimeout::default(),
        })
    }

    /// Returns the error for a failed connection, with what to do if a person has to act.
    pub(super) fn connect_error(&self, error: Error) -> StoreError {
        let (user, database) = (&self.address.user, &self.address.database);
        let Error::Server(server) = &error else { return classify(error) };
        match server.code {
            code if LOGIN_REFUSED.contains(&code) => StoreError::Blocked(format!(
                "the database at {} refuses the login of user `{user}`, with {}",
                self.address.host,
                self.password.describe(self.address.password.as_deref())
            )),
            1044 | 1049 => StoreError::Blocked(format!(
                "database `{database}` does not exist, or user `{user}` may not use it; to fix it, run: CREATE DATABASE IF NOT EXISTS {name}; GRANT ALL PRIVILEGES ON {name}.* TO {user}",
                name = super::repair_sql::name(database),
                user = super::repair_sql::name(user),
            )),
            _ => classify(error),
        }
    }
}

async fn read(file: String) -> Result<Vec<u8>, Error> {
    let reading = tokio::task::spawn_blocking(move || {
        std::fs::read(&file).map_err(|error| format!("cannot read the file `{file}` of `ssl-ca`: {error}"))
    });
    let read = reading.await.map_err(|error| Error::Other(error.into()))?;
    read.map_err(|reason| Error::Other(reason.into()))
}

fn settings(flavour: Flavour) -> String {
    // Times are truncated to the precision of their column; rounding could move them into the next second.
    let (mode, own) = match flavour {
        Flavour::Mysql => (",TIME_TRUNCATE_FRACTIONAL", String::new()),
        // Ends the transaction of a process that hangs while its connection is open, so that its locks are released.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Password;
    use crate::store::cell::Cell;
    use crate::store::mysql::test_server::{Mariadb, connected, servers::Setup, session};

    async fn tried(url: &str) -> Result<Vec<Vec<Cell>>, StoreError> {
        let server = Server::parse(url, &Password::default()).expect("a url");
        server.connect().await?.rows("SELECT 1", &[]).await
    }

    #[tokio::test]
    async fn encryption_follows_the_url() {
        let server = Mariadb::with(
            Setup { tls: true, ..Setup::default() }.setting("bind-address", "127.0.0.1,127.0.0.2"),
        );
        let url = server.new_database();
        let other = url.replace("127.0.0.1", "localhost");
        let certificate = server.certificate().display().to_string();
        for (url, options) in [
            (&url, String::new()),
            (&url, "?ssl-mode=REQUIRED".to_owned()),
            (&url, format!("?ssl-ca={certificate}")),
            (&url, format!("?ssl-mode=VERIFY_IDENTITY&ssl-ca={certificate}")),
            (&other, format!("?ssl-mode=VERIFY_IDENTITY&ssl-ca={certificate}")),
            (&url.replace("127.0.0.1", "127.0.0.2"), format!("?ssl-mode=VERIFY_CA&ssl-ca={certificate}")),
        ] {
            assert_eq!(
                tried(&format!("{url}{options}")).await,
                Ok(vec![vec![Cell::Integer(1)]]),
                "{options}"
            );
        }
        let wrong_name = url.replace("127.0.0.1", "127.0.0.2");
        for url in [
            format!("{url}?ssl-mode=VERIFY_CA"),
            format!("{wrong_name}?ssl-mode=VERIFY_IDENTITY&ssl-ca={certificate}"),
            format!("{url}?ssl-ca=/nowhere.pem"),
            format!("{url}?ssl-mode=DISABLED"),
        ] {
            let refusal = tried(&url).await;
            assert!(matches!(refusal, Err(StoreError::Blocked(_))), "{url}: {refusal:?}");
        }
        let plain = Mariadb::shared().new_database();
        assert!(tried(&plain).await.is_ok());
        let Err(StoreError::Blocked(refusal)) = tried(&format!("{plain}?ssl-mode=REQUIRED")).await else {
            panic!("not encrypted")
        };
        assert!(refusal.contains("ssl-mode=DISABLED"), "{refusal}");
    }

    #[tokio::test]
    async fn a_lost_connection_is_a_transient_error_and_its_transaction_is_rolled_back() {
        let (mut ours, url) = session().await;
        ours.change("CREATE TABLE t (n INT)", &[]).await.expect("made");
        let mut other = connected(&url).await;
        other.begin(crate::store::remote::begin::Begin::Writing).await.expect("begun");
        other.change("INSERT INTO t VALUES (1)", &[]).await.expect("inserted");
        let id = other.rows("SELECT CONNECTION_ID()", &[]).await.expect("a number");
        let [Cell::Integer(id)] = id[0][..] else { panic!("a number") };
        Mariadb::shared().administer(&format!("KILL {id}"));
        let outcome = other.commit().await;
        assert!(matches!(outcome, Err(StoreError::Transient(_))), "{outcome:?}");
        assert!(other.rollback().await.is_err());
        assert_eq!(ours.rows("SELECT COUNT(*) FROM t", &[]).await, Ok(vec![vec![Cell::Integer(0)]]));
        let no_server = Server::parse("mysql://a:b@127.0.0.1:1/c", &Password::default()).expect("a url");
        assert!(matches!(no_server.preflight().await, Err(StoreError::Transient(_))));
    }

    #[tokio::test]
    async fn a_session_that_timed_out_is_not_reused() {
        let (mut session, _) = session().await;
        session.statement_timeout = StatementTimeout::new(std::time::Duration::from_millis(50));
        session.begin(crate::store::remote::begin::Begin::Writing).await.expect("begun");
        let late = session.change("DO SLEEP(1)", &[]).await;
        assert!(matches!(late, Err(StoreError::Transient(_))), "{late:?}");
        // A longer timeout does not make the session usable again.
        session.statement_timeout.shorten();
        session.rollback().await.expect_err("its next answer would be the late one");
    }

    #[tokio::test]
    async fn a_deadlock_is_a_transient_error() {
        let (mut one, url) = session().await;
        one.change("CREATE TABLE t (id INT PRIMARY KEY, n INT)", &[]).await.expect("made");
        one.change("INSERT INTO t VALUES (1, 0), (2, 0)", &[]).await.expect("rows");
        let mut two = connected(&url).await;
        let update = |id: i64| format!("UPDATE t SET n = n + 1 WHERE id = {id}");
        for (session, id) in [(&mut one, 1), (&mut two, 2)] {
            session.begin(crate::store::remote::begin::Begin::Writing).await.expect("begun");
            session.change(&update(id), &[]).await.expect("changed");
        }
        let (first, second) = (update(2), update(1));
        let outcomes = tokio::join!(one.change(&first, &[]), two.change(&second, &[]));
        let failed = [&outcomes.0, &outcomes.1].into_iter().filter_map(|outcome| outcome.as_ref().err());
        let failed: Vec<_> = failed.collect();
        assert!(matches!(failed[..], [StoreError::Transient(_)]), "{outcomes:?}");
        let (mut victim, mut winner) = if outcomes.0.is_err() { (one, two) } else { (two, one) };
        assert!(victim.commit().await.is_err(), "its transaction is gone");
        victim.rollback().await.expect("rolled back");
        winner.commit().await.expect("committed");
    }
}

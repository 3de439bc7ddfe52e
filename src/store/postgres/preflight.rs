//! Checks a server before use: whether millrace supports it, and whether it keeps what it commits. Creates the
//! database if it is missing.

use tokio_postgres::error::SqlState;

use super::connect::Server;
use super::{Session, errors};
use crate::store::StoreError;
use crate::store::cell::Cell;
use crate::store::tables::quote;

/// PostgreSQL 12.
const VERSION_MIN: i64 = 120_000;
/// Databases that exist on every server. `CREATE DATABASE` runs in one of them.
const MAINTENANCE_DATABASES: [&str; 2] = ["postgres", "template1"];

const SETTINGS_SQL: &str = "SELECT current_setting('server_version_num')::int8, current_setting('server_version'), \
     current_setting('server_encoding'), pg_catalog.pg_is_in_recovery(), current_setting('fsync'), \
     current_setting('full_page_writes'), \
     coalesce((SELECT ssl FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid()), FALSE) \
     OR pg_catalog.inet_client_addr() IS NULL OR pg_catalog.inet_client_addr() = pg_catalog.inet_server_addr()";

impl Server {
    pub async fn preflight(&self) -> Result<Vec<String>, StoreError> {
        let mut session = match self.connect_to(self.database()).await {
            Err(error) if error.is(&SqlState::INVALID_CATALOG_NAME) => {
                self.create_database().await?;
                self.connect().await?
            }
            outcome => outcome.map_err(|error| self.store_error(error))?,
        };
        self.check_settings(&mut session).await
    }

    /// Opens a session, or returns `None` if the database does not exist.
    pub async fn connect_to_existing(&self) -> Result<Option<Session>, StoreError> {
        match self.connect_to(self.database()).await {
            Err(error) if error.is(&SqlState::INVALID_CATALOG_NAME) => Ok(None),
            outcome => outcome.map(Some).map_err(|error| self.store_error(error)),
        }
    }

    /// Fails if millrace cannot work with the server, and returns warnings.
    pub async fn check_settings(&self, session: &mut Session) -> Result<Vec<String>, StoreError> {
        let row = session.rows(SETTINGS_SQL, &[]).await?.into_iter().next().unwrap_or_default();
        match row.as_slice() {
            [
                Cell::Integer(number),
                Cell::Text(version),
                Cell::Text(encoding),
                Cell::Integer(in_recovery),
                more @ ..,
            ] => {
                self.check_usable(*number, version, encoding, *in_recovery == 1)?;
                Ok(self.warnings(more))
            }
            _ => Err(StoreError::Blocked(format!(
                "the server at {} did not report its version and settings",
                self.address()
            ))),
        }
    }

    fn check_usable(
        &self,
        number: i64,
        version: &str,
        encoding: &str,
        in_recovery: bool,
    ) -> Result<(), StoreError> {
        let (address, database) = (self.address(), self.database());
        if number < VERSION_MIN {
            return Err(StoreError::Blocked(format!(
                "the server at {address} is PostgreSQL {version}, but millrace needs 12 or newer"
            )));
        }
        if encoding != "UTF8" {
            return Err(StoreError::Blocked(format!(
                "database `{database}` at {address} has the encoding {encoding}, which does not support every character; \
                 to create one that does, run: CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'",
                quote(&format!("{database}_utf8"))
            )));
        }
        if in_recovery {
            Err(StoreError::Transient(format!("the server at {address} is in recovery, or is a standby")))
        } else {
            Ok(())
        }
    }

    fn warnings(&self, settings: &[Cell]) -> Vec<String> {
        let address = self.address();
        let [fsync, full_page_writes, safe] = settings else { return Vec::new() };
        let off = Cell::Text("off".to_owned());
        let mut warnings = Vec::new();
        if *fsync == off {
            warnings.push(format!(
                "the server at {address} runs with `fsync = off`: a power failure can lose rows and positions; set it to on"
            ));
        }
        if *full_page_writes == off {
            warnings.push(format!(
                "the server at {address} runs with `full_page_writes = off`: a power failure can corrupt its pages; set it to on"
            ));
        }
        if *safe == Cell::Integer(0) {
            warnings.push(format!(
                "the connection to {address} crosses a network without encryption; add `?sslmode=verify-full&sslrootcert=FILE` to `[store] url`"
            ));
        }
        warnings
    }

    async fn create_database(&self) -> Result<(), StoreError> {
        for database in MAINTENANCE_DATABASES {
            if let Ok(session) = self.connect_to(database).await {
                return self.create_in(&session).await;
            }
        }
        Err(StoreError::Blocked(self.missing_database()))
    }

    async fn create_in(&self, session: &Session) -> Result<(), StoreError> {
        let sql = format!("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'", quote(self.database()));
        match session.client.batch_execute(&sql).await {
            Ok(()) => {
                tracing::info!(database = self.database(), server = self.address(), "created the database");
                Ok(())
            }
            // Another node has created it meanwhile.
            Err(error) if error.code() == Some(&SqlState::DUPLICATE_DATABASE) => Ok(()),
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                Err(StoreError::Blocked(format!("{} OWNER {}", self.missing_database(), quote(&self.user()))))
            }
            Err(error) => Err(errors::classify(&error)),
        }
    }

    /// Returns a message that ends in the SQL for an administrator.
    pub(super) fn missing_database(&self) -> String {
        let (database, address, user) = (self.database(), self.address(), self.user());
        format!(
            "database `{database}` does not exist at {address}, and user `{user}` may not create it; to create it, run as an administrator: CREATE DATABASE {}",
            quote(database)
        )
    }
}

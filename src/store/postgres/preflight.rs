//! The look at a server before anything is entrusted to it: does it keep what it commits, and is it one that
//! millrace knows?

use tokio_postgres::error::SqlState;

use super::connect::{Refused, Server};
use super::{Session, errors};
use crate::store::StoreError;
use crate::store::tables::{Cell, quote};

/// PostgreSQL 12.
const VERSION_MIN: i64 = 120_000;
/// Databases that a server has from the beginning: in one of them another one can be asked for.
const DATABASES_TO_ASK_IN: [&str; 2] = ["postgres", "template1"];

const LOOK: &str = "SELECT current_setting('server_version_num')::int8, current_setting('server_version'), \
     current_setting('server_encoding'), pg_catalog.pg_is_in_recovery(), current_setting('fsync'), \
     current_setting('full_page_writes'), \
     coalesce((SELECT ssl FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid()), FALSE) \
     OR pg_catalog.inet_client_addr() IS NULL OR pg_catalog.inet_client_addr() = pg_catalog.inet_server_addr()";

impl Server {
    pub async fn look(&self) -> Result<Vec<String>, StoreError> {
        let mut session = match self.connect_to(self.database()).await {
            Err(refused) if refused.is(&SqlState::INVALID_CATALOG_NAME) => {
                self.make_database(refused).await?;
                self.connect().await?
            }
            outcome => outcome.map_err(|refused| self.explained(refused))?,
        };
        let row = session.rows(LOOK, &[]).await?.into_iter().next().unwrap_or_default();
        match row.as_slice() {
            [
                Cell::Integer(number),
                Cell::Text(version),
                Cell::Text(encoding),
                Cell::Integer(recovers),
                more @ ..,
            ] => {
                self.usable(*number, version, encoding, *recovers == 1)?;
                Ok(self.warnings(more))
            }
            _ => Err(StoreError::Blocked(format!("the server at {} does not say what it is", self.place()))),
        }
    }

    fn usable(&self, number: i64, version: &str, encoding: &str, recovers: bool) -> Result<(), StoreError> {
        let (place, database) = (self.place(), self.database());
        if number < VERSION_MIN {
            return Err(StoreError::Blocked(format!(
                "the server at {place} is PostgreSQL {version}, and millrace needs 12 or newer"
            )));
        }
        if encoding != "UTF8" {
            return Err(StoreError::Blocked(format!(
                "database `{database}` at {place} keeps text as {encoding}, and not every character fits; this makes \
                 one that does: CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'",
                quote(&format!("{database}_utf8"))
            )));
        }
        match recovers {
            true => Err(StoreError::Transient(format!("the server at {place} recovers, or is a standby"))),
            false => Ok(()),
        }
    }

    fn warnings(&self, settings: &[Cell]) -> Vec<String> {
        let place = self.place();
        let [fsync, full_page_writes, safe] = settings else { return Vec::new() };
        let off = Cell::Text("off".to_owned());
        let mut warnings = Vec::new();
        if *fsync == off {
            warnings.push(format!(
                "the server at {place} runs with `fsync = off`: a power cut can take rows and positions with it"
            ));
        }
        if *full_page_writes == off {
            warnings.push(format!(
                "the server at {place} runs with `full_page_writes = off`: a power cut can spoil its pages"
            ));
        }
        if *safe == Cell::Integer(0) {
            warnings.push(format!(
                "the connection to {place} crosses a network without encryption: `?sslmode=verify-full&sslrootcert=FILE` encrypts it"
            ));
        }
        warnings
    }

    async fn make_database(&self, refused: Refused) -> Result<(), StoreError> {
        let mut asked = Err(refused);
        for database in DATABASES_TO_ASK_IN {
            asked = self.connect_to(database).await;
            if asked.is_ok() {
                break;
            }
        }
        let Ok(session) = asked else {
            return Err(StoreError::Blocked(format!("{}, or as an administrator", self.missing())));
        };
        self.create_in(&session).await
    }

    async fn create_in(&self, session: &Session) -> Result<(), StoreError> {
        let sql = format!("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'", quote(self.database()));
        match session.client.batch_execute(&sql).await {
            Ok(()) => {
                tracing::info!(database = self.database(), server = self.place(), "database made");
                Ok(())
            }
            // Somebody else was faster.
            Err(error) if error.code() == Some(&SqlState::DUPLICATE_DATABASE) => Ok(()),
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                Err(StoreError::Blocked(format!("{} OWNER {}", self.missing(), quote(&self.user()))))
            }
            Err(error) => Err(errors::classify(&error)),
        }
    }

    /// Ends in SQL that an administrator can run.
    pub(super) fn missing(&self) -> String {
        let (database, place, user) = (self.database(), self.place(), self.user());
        format!(
            "there is no database `{database}` at {place}, and user `{user}` may not make it; this makes it: CREATE DATABASE {}",
            quote(database)
        )
    }
}

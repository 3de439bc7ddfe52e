//! Opens a session with PostgreSQL and applies the settings that millrace relies on.

use std::time::Duration;

use event::limits::{
    POSTGRES_CLOSE_DURATION_MAX, POSTGRES_CONNECT_DURATION_MAX, POSTGRES_IDLE_DURATION_MAX,
    POSTGRES_LOCK_DURATION_MAX, POSTGRES_REACH_DURATION_MAX,
};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_postgres::config::{LoadBalanceHosts, SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error};

use super::prepared::Prepared;
use super::tls::Tls;
use super::url::{Encryption, Host, Target};
use super::{Session, errors};
use crate::store::StoreError;
use crate::store::remote::password::Password;
use crate::store::remote::statement_timeout::StatementTimeout;

/// A server and a database on it. It has no `Debug` because it contains a password.
pub struct Server {
    target: Target,
    password: Password,
    tls: Tls,
}

impl Server {
    pub fn parse(url: &str, password: &Password) -> Result<Self, String> {
        let target = Target::parse(url)?;
        let tls = Tls::new(&target.encryption)?;
        Ok(Self { target, password: password.clone(), tls })
    }

    /// Returns the server and the database for messages, without a password.
    pub fn name(&self) -> String {
        let hosts: Vec<String> = self.target.hosts.iter().map(Host::to_string).collect();
        format!("postgres://{}/{}", hosts.join(","), self.target.database)
    }

    /// Returns the hosts for messages.
    pub fn address(&self) -> String {
        self.target.hosts.iter().map(Host::to_string).collect::<Vec<_>>().join(", ")
    }

    pub fn database(&self) -> &str {
        &self.target.database
    }

    /// Returns the user's name for messages.
    pub fn user(&self) -> String {
        self.target.user.clone().unwrap_or_else(|| "the system user that runs millrace".to_owned())
    }

    pub async fn connect(&self) -> Result<Session, StoreError> {
        let session = self.connect_to(&self.target.database).await;
        session.map_err(|error| self.store_error(error))
    }

    /// Opens a session in `database`, which is another one while the configured database is created. If the login is
    /// refused, tries again with a changed password.
    pub async fn connect_to(&self, database: &str) -> Result<Session, ConnectError> {
        let tried = self.password.or(self.target.password.as_deref());
        match self.connect_once(database).await {
            Err(error)
                if error.is(&SqlState::INVALID_PASSWORD)
                    && self.password.reload_differs_from(tried.as_deref()).await =>
            {
                self.connect_once(database).await
            }
            outcome => outcome,
        }
    }

    async fn connect_once(&self, database: &str) -> Result<Session, ConnectError> {
        let config = self.config(database);
        let connecting = async {
            let (client, connection) = config.connect(self.tls.clone()).await?;
            // The sender is dropped with the session.
            let (alive, dropped) = oneshot::channel::<()>();
            tokio::spawn(async move {
                let mut connection = std::pin::pin!(connection);
                tokio::select! {
                    _ = &mut connection => return,
                    _ = dropped => {}
                }
                // An idle connection closes properly at once; a busy one is cut off after a while.
                let _ = timeout(POSTGRES_CLOSE_DURATION_MAX, connection).await;
            });
            set_up(&client).await?;
            Ok(Session {
                client,
                prepared: Prepared::default(),
                statement_timeout: StatementTimeout::default(),
                _alive: alive,
            })
        };
        // The hosts are tried one after the other. A silent one does not use up the time of the others.
        let limit = POSTGRES_CONNECT_DURATION_MAX * self.target.hosts.len() as u32;
        match timeout(limit, connecting).await {
            Ok(outcome) => outcome.map_err(ConnectError::Driver),
            Err(_) => Err(ConnectError::Timeout),
        }
    }

    fn config(&self, database: &str) -> Config {
        let mut config = Config::new();
        config.dbname(database).application_name("millrace");
        config.connect_timeout(POSTGRES_REACH_DURATION_MAX);
        config.keepalives_idle(KEEPALIVE_IDLE).tcp_user_timeout(UNANSWERED_MAX);
        for host in &self.target.hosts {
            match host {
                Host::Network { name, port } => config.host(name).port(*port),
                Host::Folder { path, port } => config.host_path(path).port(*port),
            };
        }
        if self.target.hosts.len() > 1 {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
            config.load_balance_hosts(LoadBalanceHosts::Disable);
        }
        if let Some(user) = &self.target.user {
            config.user(user);
        }
        if let Some(password) = self.password.or(self.target.password.as_deref()) {
            config.password(password);
        }
        if let Some(options) = &self.target.options {
            config.options(options);
        }
        let local = self.target.hosts.iter().all(|host| matches!(host, Host::Folder { .. }));
        config.ssl_mode(match self.target.encryption {
            Encryption::Disable => SslMode::Disable,
            // A Unix socket is never encrypted.
            _ if local => SslMode::Disable,
            Encryption::Prefer => SslMode::Prefer,
            Encryption::Require | Encryption::VerifyCa(_) | Encryption::VerifyFull(_) => SslMode::Require,
        });
        config
    }

    /// Converts the error; the message says what to do if a person has to act.
    pub fn store_error(&self, error: ConnectError) -> StoreError {
        let (address, user, database) = (self.address(), self.user(), self.database());
        let error = match error {
            ConnectError::Timeout => {
                return StoreError::Transient(format!("the database at {address} does not answer"));
            }
            ConnectError::Driver(error) => error,
        };
        match error.code() {
            Some(code) if *code == SqlState::INVALID_PASSWORD => StoreError::Blocked(format!(
                "the server at {address} refuses the login of user `{user}`, with {}",
                self.password.describe(self.target.password.as_deref())
            )),
            Some(code) if *code == SqlState::INVALID_CATALOG_NAME => StoreError::Blocked(format!(
                "database `{database}` does not exist at {address}; to create it, run: CREATE DATABASE {}",
                crate::store::quote(database)
            )),
            Some(code) if *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
                StoreError::Blocked(format!(
                    "the server at {address} does not admit user `{user}`; check the name, or admit it in the server's pg_hba.conf"
                ))
            }
            _ => match errors::classify(&error) {
                StoreError::Blocked(reason) => StoreError::Blocked(format!("{reason}, at {address}")),
                other => other,
            },
        }
    }
}

/// Why a connection could not be opened.
pub enum ConnectError {
    Timeout,
    Driver(Error),
}

impl ConnectError {
    pub fn is(&self, code: &SqlState) -> bool {
        matches!(self, Self::Driver(error) if error.code() == Some(code))
    }
}

const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// The connection counts as lost if the server does not acknowledge sent data for this long.
const UNANSWERED_MAX: Duration = Duration::from_secs(30);

/// Applies the session's settings. JIT is off: queries are small and frequent, so compiling them would cost more than
/// running them. Servers from version 14 on also end a statement whose client is gone.
async fn set_up(client: &Client) -> Result<(), Error> {
    let sql = format!(
        "SET TIME ZONE 'UTC'; SET DateStyle TO ISO; SET standard_conforming_strings TO on; SET jit TO off; \
         SET client_min_messages TO warning; SET statement_timeout TO 0; SET lock_timeout TO {}; \
         SET idle_in_transaction_session_timeout TO {}; \
         SELECT set_config('synchronous_commit', 'on', false) \
         WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply'); \
         SELECT set_config(name, '5s', false) FROM pg_catalog.pg_settings WHERE name = 'client_connection_check_interval'",
        POSTGRES_LOCK_DURATION_MAX.as_millis(),
        POSTGRES_IDLE_DURATION_MAX.as_millis()
    );
    client.batch_execute(&sql).await
}

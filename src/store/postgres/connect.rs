//! A session of PostgreSQL from nothing: the connection, and how it has to be for the promises to hold.

use std::time::Duration;

use event::limits::{
    POSTGRES_CONNECT_DURATION_MAX, POSTGRES_GOODBYE_DURATION_MAX, POSTGRES_IDLE_DURATION_MAX,
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
use crate::store::remote::{Password, Patience};

/// A server and a database in it. Without `Debug`: it knows a password.
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

    /// For people.
    pub fn name(&self) -> String {
        let hosts: Vec<String> = self.target.hosts.iter().map(Host::to_string).collect();
        format!("postgres://{}/{}", hosts.join(","), self.target.database)
    }

    pub fn place(&self) -> String {
        self.target.hosts.iter().map(Host::to_string).collect::<Vec<_>>().join(", ")
    }

    pub fn database(&self) -> &str {
        &self.target.database
    }

    /// As whom, in words of the server's administrator.
    pub fn user(&self) -> String {
        self.target.user.clone().unwrap_or_else(|| "the one that runs millrace".to_owned())
    }

    pub async fn connect(&self) -> Result<Session, StoreError> {
        let session = self.connect_to(&self.target.database).await;
        session.map_err(|error| self.explained(error))
    }

    /// Another database of the same server serves to make this one. A password that is refused may have been
    /// changed meanwhile.
    pub async fn connect_to(&self, database: &str) -> Result<Session, Refused> {
        let tried = self.password.or(self.target.password.as_deref());
        match self.connect_once(database).await {
            Err(refused)
                if refused.is(&SqlState::INVALID_PASSWORD)
                    && self.password.another_than(tried.as_deref()).await =>
            {
                self.connect_once(database).await
            }
            outcome => outcome,
        }
    }

    async fn connect_once(&self, database: &str) -> Result<Session, Refused> {
        let config = self.config(database);
        let connecting = async {
            let (client, connection) = config.connect(self.tls.clone()).await?;
            // Dropped with the session.
            let (alive, gone) = oneshot::channel::<()>();
            tokio::spawn(async move {
                let mut connection = std::pin::pin!(connection);
                tokio::select! {
                    _ = &mut connection => return,
                    _ = gone => {}
                }
                // Idle, it says goodbye at once; in the middle of something it is cut off.
                let _ = timeout(POSTGRES_GOODBYE_DURATION_MAX, connection).await;
            });
            set_up(&client).await?;
            Ok(Session {
                client,
                prepared: Prepared::default(),
                patience: Patience::default(),
                _alive: alive,
            })
        };
        // Each of several hosts is tried, and one that is silent leaves the others their time.
        let limit = POSTGRES_CONNECT_DURATION_MAX * self.target.hosts.len() as u32;
        match timeout(limit, connecting).await {
            Ok(outcome) => outcome.map_err(Refused::Said),
            Err(_) => Err(Refused::Silent),
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

    /// Where a person has to act, says how.
    pub fn explained(&self, refused: Refused) -> StoreError {
        let (place, user, database) = (self.place(), self.user(), self.database());
        let error = match refused {
            Refused::Silent => {
                return StoreError::Transient(format!("the database at {place} does not answer"));
            }
            Refused::Said(error) => error,
        };
        match error.code() {
            Some(code) if *code == SqlState::INVALID_PASSWORD => StoreError::Blocked(format!(
                "the server at {place} refuses the login of user `{user}`, with {}",
                self.password.place(self.target.password.as_deref())
            )),
            Some(code) if *code == SqlState::INVALID_CATALOG_NAME => StoreError::Blocked(format!(
                "there is no database `{database}` at {place}; this makes it: CREATE DATABASE {}",
                crate::store::quote(database)
            )),
            Some(code) if *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
                StoreError::Blocked(format!(
                    "the server at {place} does not let user `{user}` in: its pg_hba.conf, or the name, is to be mended"
                ))
            }
            _ => match errors::classify(&error) {
                StoreError::Blocked(reason) => StoreError::Blocked(format!("{reason}, at {place}")),
                classify => classify,
            },
        }
    }
}

/// Why there is no connection.
pub enum Refused {
    Silent,
    Said(Error),
}

impl Refused {
    pub fn is(&self, code: &SqlState) -> bool {
        matches!(self, Self::Said(error) if error.code() == Some(code))
    }
}

const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// What was sent and not taken for so long says that the server is gone.
const UNANSWERED_MAX: Duration = Duration::from_secs(30);

/// Plans are small and made often: compiling them would cost more than they do. A client that has gone lets
/// its statement go where the server (from 14 on) can look for it.
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

//! The configured database server: its kind, address and user.

use super::Password;
use super::server_session::ServerSession;
use crate::store::{OpenError, StoreError, mysql, postgres};

pub enum Server {
    Postgres(postgres::Server),
    Mysql(mysql::Server),
}

impl Server {
    /// Parses a URL such as `postgres://user@host:5432/name`; the password can come from elsewhere.
    pub fn parse(url: &str, password: &Password) -> Result<Self, OpenError> {
        let parsed = match url.split_once(':').map_or("", |(scheme, _)| scheme) {
            "postgres" | "postgresql" => postgres::Server::parse(url, password).map(Self::Postgres),
            "mysql" | "mariadb" => mysql::Server::parse(url, password).map(Self::Mysql),
            // The error has only the scheme: the rest of the URL may contain a password.
            _ => {
                let scheme = url.split_inclusive(':').next().unwrap_or_default();
                return Err(OpenError::UnknownUrl(scheme.to_owned()));
            }
        };
        parsed.map_err(OpenError::Url)
    }

    /// Returns kind, host and database for messages, never a password.
    pub fn name(&self) -> String {
        either!(self: Postgres | Mysql, server => server.name())
    }

    /// Opens a session with the settings that millrace relies on.
    pub async fn connect(&self) -> Result<ServerSession, StoreError> {
        match self {
            Self::Postgres(server) => server.connect().await.map(Box::new).map(ServerSession::Postgres),
            Self::Mysql(server) => server.connect().await.map(Box::new).map(ServerSession::Mysql),
        }
    }

    /// Opens a session with an existing database and returns it with the warnings of `preflight`. Returns `None` if the
    /// database does not exist. Changes nothing.
    pub async fn inspect(&self) -> Result<Option<(ServerSession, Vec<String>)>, StoreError> {
        Ok(match self {
            Self::Postgres(server) => match server.connect_to_existing().await? {
                None => None,
                Some(mut session) => {
                    let warnings = server.check_settings(&mut session).await?;
                    Some((ServerSession::Postgres(Box::new(session)), warnings))
                }
            },
            Self::Mysql(server) => match server.connect_to_existing().await? {
                None => None,
                Some(mut session) => {
                    let warnings = server.check_settings(&mut session).await?;
                    Some((ServerSession::Mysql(Box::new(session)), warnings))
                }
            },
        })
    }

    /// Creates the database if that is allowed, and checks whether the server keeps what it commits. Returns warnings
    /// for the log. Fails if millrace cannot work with the server.
    pub async fn preflight(&self) -> Result<Vec<String>, StoreError> {
        either!(self: Postgres | Mysql, server => server.preflight().await)
    }
}

//! Which database server, where, and as whom.

use super::Password;
use super::session::Session;
use crate::store::{StoreError, mysql, postgres};

pub enum Server {
    Postgres(postgres::Server),
    Mysql(mysql::Server),
}

impl Server {
    /// Out of a URL such as `postgres://user@host:5432/name`; the password may come from elsewhere.
    pub fn parse(url: &str, password: &Password) -> Result<Self, String> {
        let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
        match scheme {
            "postgres" | "postgresql" => postgres::Server::parse(url, password).map(Self::Postgres),
            "mysql" | "mariadb" => mysql::Server::parse(url, password).map(Self::Mysql),
            _ => Err("is no URL of a database server".to_owned()),
        }
    }

    /// For people: kind, host and database, never a password.
    pub fn name(&self) -> String {
        match self {
            Self::Postgres(server) => server.name(),
            Self::Mysql(server) => server.name(),
        }
    }

    /// A session that is set up as the promises need it.
    pub async fn connect(&self) -> Result<Session, StoreError> {
        match self {
            Self::Postgres(server) => server.connect().await.map(Box::new).map(Session::Postgres),
            Self::Mysql(server) => server.connect().await.map(Box::new).map(Session::Mysql),
        }
    }

    /// Once, at the start: makes the database where that is allowed, and looks whether the server keeps what
    /// it commits. What is worth a warning comes back in words; what cannot be lived with is an error.
    pub async fn look(&self) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Postgres(server) => server.look().await,
            Self::Mysql(server) => server.look().await,
        }
    }
}

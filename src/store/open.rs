//! Opens a store. A file is open at once. A database server is prepared when it answers, and admits work only after it
//! was found to belong to the log.

use std::path::{Path, PathBuf};

use super::{OpenError, Password, Store, StoreError, remote, sqlite};

impl Store {
    /// Opens the store at `url`. `password` takes precedence over a password inside the URL.
    pub async fn open(url: &str, password: Option<&Password>, data: &Path) -> Result<Self, OpenError> {
        let store = Self::at(url, password, data)?;
        for warning in store.prepare().await? {
            tracing::warn!(store = store.name(), warning, "check the settings of the database server");
        }
        store.admit(Ok(()));
        Ok(store)
    }

    /// Opens the file of the store, or describes the server on which it is. A store on a server refuses all work until
    /// it is prepared and admitted.
    pub fn at(url: &str, password: Option<&Password>, data: &Path) -> Result<Self, OpenError> {
        let Some(file) = Self::sqlite_file(url, data) else {
            let password = password.cloned().unwrap_or_default();
            return remote::Remote::at(url, &password).map(Self::Remote);
        };
        sqlite::Sqlite::open(&file).map(Self::Sqlite)
    }

    /// Returns the file of an SQLite store, or `None` if the URL names another kind of store.
    pub(super) fn sqlite_file(url: &str, data: &Path) -> Option<PathBuf> {
        Some(match url.strip_prefix("sqlite:")? {
            "" => data.join("millrace.db"),
            path => path.strip_prefix("//").unwrap_or(path).into(),
        })
    }

    /// Creates or updates millrace's own tables on a server. Returns warnings about its settings. Fails if the server
    /// does not answer now.
    pub async fn prepare(&self) -> Result<Vec<String>, OpenError> {
        match self {
            Self::Sqlite(_) => Ok(Vec::new()),
            Self::Remote(store) => store.prepare().await,
        }
    }

    /// Admits work to a store on a server; or refuses it, with the reason for every attempt.
    pub fn admit(&self, state: Result<(), StoreError>) {
        match self {
            Self::Sqlite(_) => {}
            Self::Remote(store) => store.gate().set(state),
        }
    }

    /// Returns the same store, for the checks that decide whether work is admitted.
    pub fn before_admission(&self) -> Self {
        match self {
            Self::Sqlite(_) => self.clone(),
            Self::Remote(store) => Self::Remote(store.without_gate()),
        }
    }

    /// Fails if the database server does not answer, or would refuse to write. A file always answers.
    pub async fn probe(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Remote(store) => store.probe().await,
        }
    }

    /// Returns true if the store is a file and not a server.
    pub fn is_file(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }

    /// Returns the kind of database.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Remote(store) => store.kind(),
        }
    }
}

//! What outlives the process, opened before anything runs: the log, and the store, whose server may be up later.

use std::path::Path;

use journal::failpoint;

use super::{ServeError, Settings, start_checks};
use crate::log::{self, EventLog};
use crate::store::{self, Backoff, Password, Store};

pub struct Storage {
    pub log: EventLog,
    pub found: log::OpenReport,
    pub store: Store,
}

impl Storage {
    /// May be dropped on the way: nothing runs yet that would have to be ended.
    pub async fn open(settings: &Settings, password: &Password) -> Result<Self, ServeError> {
        start_checks::data_folder(&settings.data)?;
        let (log, found) = open_log(&settings.config.log_url, &settings.data).await?;
        failpoint::hit("server.log_open");
        let store = open_store(&settings.config.store.url, password, &settings.data).await?;
        failpoint::hit("server.store_open");
        tracing::info!(store = store.name(), "store is open");
        Ok(Self { log, found, store })
    }
}

/// A database server may take longer to come up than this one.
async fn open_store(url: &str, password: &Password, data: &Path) -> Result<Store, store::OpenError> {
    let (mut backoff, mut said) = (Backoff::default(), String::new());
    loop {
        match Store::open(url, Some(password), data).await {
            Err(store::OpenError::Unreachable { name, reason }) => {
                if reason != said {
                    tracing::warn!(
                        store = name,
                        reason,
                        "the store does not answer yet; it is tried until it does"
                    );
                    said = reason;
                }
                tokio::time::sleep(backoff.pause()).await;
            }
            outcome => return outcome,
        }
    }
}

async fn open_log(url: &str, data: &Path) -> Result<(EventLog, log::OpenReport), ServeError> {
    let (url, data) = (url.to_owned(), data.to_owned());
    let opened = tokio::task::spawn_blocking(move || EventLog::open(&url, &data)).await;
    let (log, found) = opened.map_err(|error| std::io::Error::other(error.to_string()))??;
    if found.torn_bytes_cut > 0 {
        tracing::warn!(
            bytes = found.torn_bytes_cut,
            "the end of the log was torn by a crash and is cut; nothing in it was acknowledged"
        );
    }
    tracing::info!(log = %log.id(), events = log.end() - log.begin(), bytes = log.bytes(), new = found.created, clean = found.clean_stop, "log is open");
    Ok((log, found))
}

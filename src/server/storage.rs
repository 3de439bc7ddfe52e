//! Opens the log and the store, before anything runs. It waits for a database server that is not up yet.

use std::path::Path;

use super::{ServeError, Settings, start_checks};
use crate::log::{self, EventLog};
use crate::store::{self, Password, Store};

pub struct Storage {
    pub log: EventLog,
    pub report: log::OpenReport,
    pub store: Store,
}

impl Storage {
    /// Opens the log, then the store. The future may be dropped: nothing runs yet that would have to be stopped.
    pub async fn open(settings: &Settings, password: &Password) -> Result<Self, ServeError> {
        start_checks::data_folder(&settings.data)?;
        let (log, report) = open_log(&settings.config.log_url, &settings.data).await?;
        failpoint::hit("server.log_open");
        let store = open_store(&settings.config.store.url, password, &settings.data).await?;
        failpoint::hit("server.store_open");
        tracing::info!(store = store.name(), "store is open");
        Ok(Self { log, report, store })
    }
}

/// Opens the store, and retries while its server does not answer: it may start later than this one.
async fn open_store(url: &str, password: &Password, data: &Path) -> Result<Store, store::OpenError> {
    let (mut backoff, mut logged) = (event::Backoff::default(), String::new());
    loop {
        match Store::open(url, Some(password), data).await {
            Err(store::OpenError::Unreachable { name, reason }) => {
                if reason != logged {
                    tracing::warn!(
                        store = name,
                        reason,
                        "the store does not answer yet; retrying until it does"
                    );
                    logged = reason;
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
    let (log, report) = opened.map_err(|error| std::io::Error::other(error.to_string()))??;
    if report.torn_bytes_cut > 0 {
        tracing::warn!(
            bytes = report.torn_bytes_cut,
            "a crash left an incomplete record at the end of the log, which was cut off; nothing in it was acknowledged"
        );
    }
    tracing::info!(log = %log.id(), events = log.end() - log.begin(), bytes = log.bytes(), new = report.created, clean = report.clean_stop, "log is open");
    Ok((log, report))
}

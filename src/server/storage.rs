//! Opens the log and the store, before anything runs. The log is enough to accept events: a database server that does
//! not answer now is prepared later, while the server runs.

use std::path::Path;
use std::time::Duration;

use event::limits::{STORE_PREPARE_DURATION_MAX, STORE_START_DURATION_MAX};
use tokio::time::timeout;

use super::start_checks;
use super::{ServeError, Settings};
use crate::admission::Keys;
use crate::config::Config;
use crate::log::{self, EventLog};
use crate::store::{Password, Store, StoreError};

pub struct Storage {
    pub log: EventLog,
    pub store: Store,
    pub keys: Keys,
    /// What is left to do before views may use the store; `None` if it is done.
    pub preparation: Option<StorePreparation>,
}

impl Storage {
    /// Opens the log, then the store. The future may be dropped: nothing runs yet that would have to be stopped.
    pub async fn open(settings: &Settings, password: &Password) -> Result<Self, ServeError> {
        start_checks::data_folder(&settings.data)?;
        let Settings { config, data, .. } = settings;
        let (log, report) = open_log(&config.log_url, data).await?;
        failpoint::hit("server.log_open");
        let store = Store::at(&config.store.url, Some(password), data)?;
        let keys = Keys::open(&store, data, settings.legacy_env.api_key.as_deref(), settings.dev)?;
        let mut preparation = StorePreparation {
            log: log.clone(),
            report,
            config: config.clone(),
            accept_new_log: settings.accept_new_log,
            unreachable_because: String::new(),
            logged: String::new(),
        };
        if store.is_file() {
            // There is no server to wait for, and nothing keeps the views away from the file.
            preparation.run(&store, &keys).await?;
            return Ok(Self { log, store, keys, preparation: None });
        }
        let prepared = timeout(STORE_START_DURATION_MAX, preparation.run(&store, &keys)).await;
        let reason = match prepared {
            Ok(Ok(())) => return Ok(Self { log, store, keys, preparation: None }),
            Ok(Err(error)) => error.unreachable()?,
            Err(_) => not_answered(STORE_START_DURATION_MAX),
        };
        tracing::warn!(
            store = store.name(),
            reason,
            "the database does not answer; the server starts without it and accepts events"
        );
        preparation.unreachable_because = reason;
        Ok(Self { log, store, keys, preparation: Some(preparation) })
    }
}

/// Everything that has to be done before views may use the store.
pub struct StorePreparation {
    log: EventLog,
    report: log::OpenReport,
    config: Config,
    accept_new_log: bool,
    /// Why the store did not answer at the start.
    pub unreachable_because: String,
    /// The last reason in the log why the store is wrong, so that it is there once.
    logged: String,
}

/// The outcome of an attempt to prepare the store.
pub enum Attempt {
    Admitted,
    Unreachable(String),
    Wrong(String),
}

impl StorePreparation {
    /// Prepares the store while the server runs. A store that turns out wrong now does not end the process, because
    /// events were accepted: its views are paused, and it is looked at again.
    pub async fn attempt(&mut self, store: &Store, keys: &Keys) -> Attempt {
        let prepared = timeout(STORE_PREPARE_DURATION_MAX, self.run(store, keys)).await;
        let error = match prepared {
            Ok(Ok(())) => return Attempt::Admitted,
            Ok(Err(error)) => error,
            Err(_) => return Attempt::Unreachable(not_answered(STORE_PREPARE_DURATION_MAX)),
        };
        let error = match error.unreachable() {
            Ok(reason) => {
                store.admit(Err(StoreError::Transient(reason.clone())));
                return Attempt::Unreachable(reason);
            }
            Err(error) => error,
        };
        let reason = error.to_string();
        if reason != self.logged {
            tracing::error!(
                store = store.name(),
                reason,
                "the database cannot be used: the views are paused, and events are still accepted"
            );
            self.logged.clone_from(&reason);
        }
        store.admit(Err(StoreError::Blocked(reason.clone())));
        Attempt::Wrong(reason)
    }

    /// Prepares the store, checks that it belongs to the log, reads the keys, and admits work.
    async fn run(&self, store: &Store, keys: &Keys) -> Result<(), ServeError> {
        store.prepare().await?;
        failpoint::hit("server.store_open");
        let unadmitted = store.before_admission();
        start_checks::positions(&self.log, &self.report, &unadmitted, self.accept_new_log).await?;
        start_checks::undeclared_views(&self.config, &unadmitted).await?;
        keys.refresh(&unadmitted).await?;
        store.admit(Ok(()));
        tracing::info!(store = store.name(), "store is open");
        Ok(())
    }
}

fn not_answered(duration: Duration) -> String {
    format!("it has not answered for {} s", duration.as_secs())
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

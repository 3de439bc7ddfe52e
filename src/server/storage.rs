//! Opens the log and the store, before anything runs. The log is enough to accept events: a database server that does
//! not answer now is prepared later, while the server runs.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use event::Backoff;
use event::limits::STORE_START_DURATION_MAX;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::start_checks::{self, StartError};
use super::unchecked_end::UncheckedEnd;
use super::{ServeError, Settings};
use crate::admission::Keys;
use crate::config::Config;
use crate::log::{self, EventLog};
use crate::store::{Password, Store, StoreError};

pub struct Storage {
    pub log: EventLog,
    pub store: Store,
    pub keys: Keys,
    pub preparation: watch::Receiver<Preparation>,
}

/// How far the preparation of the store is. Until it is done, no view works with the store.
#[derive(Clone, Debug)]
pub enum Preparation {
    /// The database does not answer, for this reason.
    Pending(String),
    /// The database answers, but cannot be used.
    Wrong(String),
    Done,
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
        // With a SQLite file, no event is accepted before the check.
        let unchecked = (!store.is_file()).then(|| UncheckedEnd::of(data, log.id(), log.end())).transpose();
        let unchecked = unchecked.map_err(|error| StartError::UncheckedEnd {
            path: UncheckedEnd::path_in(data),
            reason: error.to_string(),
        })?;
        let mut preparing = StorePreparation {
            log: log.clone(),
            unchecked: unchecked.clone(),
            report,
            store: store.clone(),
            keys: keys.clone(),
            config: config.clone(),
            accept_new_log: settings.accept_new_log,
            logged: BTreeSet::new(),
        };
        if store.is_file() {
            // There is no server to wait for, and nothing keeps the views away from the file.
            preparing.run().await?;
            return Ok(Self { log, store, keys, preparation: watch::channel(Preparation::Done).1 });
        }
        let not_answered = format!("it has not answered for {} s", STORE_START_DURATION_MAX.as_secs());
        let (state, preparation) = watch::channel(Preparation::Pending(not_answered.clone()));
        let (sender, first) = oneshot::channel();
        tokio::spawn(preparing.run_until_done(state, sender));
        let reason = match timeout(STORE_START_DURATION_MAX, first).await {
            Ok(Ok(FirstAttempt::Admitted)) => return Ok(Self { log, store, keys, preparation }),
            Ok(Ok(FirstAttempt::Wrong(error))) => return Err(error),
            Ok(Ok(FirstAttempt::Unreachable(reason))) => reason,
            // A database that updates its tables for long is not wrong. The attempt goes on.
            Ok(Err(_)) | Err(_) => not_answered,
        };
        if let Some(unchecked) = unchecked {
            change_file(&unchecked, UncheckedEnd::remember).await?;
        }
        tracing::warn!(
            store = store.name(),
            reason,
            "the database does not answer; the server starts without it and accepts events"
        );
        Ok(Self { log, store, keys, preparation })
    }
}

/// Everything that has to be done before views may use the store.
struct StorePreparation {
    log: EventLog,
    /// The end of the log that the positions in a database server are compared with.
    unchecked: Option<UncheckedEnd>,
    report: log::OpenReport,
    store: Store,
    keys: Keys,
    config: Config,
    accept_new_log: bool,
    /// The warnings and reasons that are in the program log, so that each is there once.
    logged: BTreeSet<String>,
}

/// The outcome of the first attempt, which may still end the start.
enum FirstAttempt {
    Admitted,
    Unreachable(String),
    Wrong(ServeError),
}

impl StorePreparation {
    /// Prepares the store as soon as it answers. A store that turns out wrong at the first attempt ends the start, if the
    /// start still waits for it. Later it does not end the process, because events were accepted: the views are paused,
    /// and the store is looked at again.
    async fn run_until_done(
        mut self,
        state: watch::Sender<Preparation>,
        first: oneshot::Sender<FirstAttempt>,
    ) {
        let (mut first, mut backoff) = (Some(first), Backoff::default());
        loop {
            let error = match self.run().await {
                Ok(()) => {
                    state.send_replace(Preparation::Done);
                    drop(first.map(|first| first.send(FirstAttempt::Admitted)));
                    return;
                }
                Err(error) => error,
            };
            match error.unreachable() {
                Ok(reason) => {
                    self.store.admit(Err(StoreError::Transient(reason.clone())));
                    state.send_replace(Preparation::Pending(reason.clone()));
                    drop(first.take().map(|first| first.send(FirstAttempt::Unreachable(reason))));
                }
                Err(error) => {
                    let reason = error.to_string();
                    if first.take().is_some_and(|first| first.send(FirstAttempt::Wrong(error)).is_ok()) {
                        return;
                    }
                    self.refuse(&reason);
                    state.send_replace(Preparation::Wrong(reason));
                }
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    fn refuse(&mut self, reason: &str) {
        if self.logged.insert(reason.to_owned()) {
            tracing::error!(
                store = self.store.name(),
                reason,
                "the database cannot be used: the views are paused, and events are still accepted"
            );
        }
        self.store.admit(Err(StoreError::Blocked(reason.to_owned())));
    }

    /// Prepares the store, checks that it belongs to the log, reads the keys, and admits work.
    async fn run(&mut self) -> Result<(), ServeError> {
        let Self { log, unchecked, report, store, keys, config, accept_new_log, logged } = self;
        for warning in store.prepare().await? {
            if logged.insert(warning.clone()) {
                tracing::warn!(store = store.name(), warning, "check the settings of the database server");
            }
        }
        failpoint::hit("server.store_open");
        let unadmitted = store.before_admission();
        start_checks::positions(log, unchecked.as_ref(), report, &unadmitted, *accept_new_log).await?;
        start_checks::undeclared_views(config, &unadmitted).await?;
        keys.refresh(&unadmitted).await?;
        if let Some(unchecked) = unchecked {
            change_file(unchecked, UncheckedEnd::forget).await?;
        }
        store.admit(Ok(()));
        tracing::info!(store = store.name(), "store is open");
        Ok(())
    }
}

/// Writes or deletes the file, which waits for the disk.
async fn change_file(
    unchecked: &UncheckedEnd,
    change: fn(&UncheckedEnd) -> io::Result<()>,
) -> Result<(), StartError> {
    let of_task = unchecked.clone();
    let changed = tokio::task::spawn_blocking(move || change(&of_task)).await;
    changed.unwrap_or_else(|error| Err(io::Error::other(error.to_string()))).map_err(|error| {
        StartError::UncheckedEnd { path: unchecked.path().to_owned(), reason: error.to_string() }
    })
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

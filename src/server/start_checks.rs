//! Checks before a server starts: a private data folder, and a log and a store that belong together. The checks of the
//! configuration are in `config_check`.

use std::collections::BTreeSet;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::tls::TlsError;
use super::unchecked_end::UncheckedEnd;
use crate::config::Config;
use crate::log::{EventLog, OpenReport};
use crate::store::{DEDUP_STORED_NAME, DeletedHistory, LOG_DELETED, Store, StoreError, shown_name};
use crate::views::SHADOW;

/// With less address space, threads may fail to start: each reserves its stack and a region for its allocations.
const ADDRESS_SPACE_BYTES_MIN: u64 = 512 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("`[tls]`: {0}")]
    Tls(#[from] TlsError),
    #[error("the data folder `{path}` cannot be used: {reason}", path = path.display())]
    DataFolder { path: PathBuf, reason: String },
    #[error(
        "view `{view}` has applied the log up to position {position}, but the log ends at {end}: the log is older than the store. Restore the newer log, or the store that belongs to this log"
    )]
    LogTooShort { view: String, position: u64, end: u64 },
    #[error(
        "view `{view}` has applied the log up to position {position}, but the log ended at {end} when the server began to accept events without its database: the log is older than the store. Restore the newer log and delete `{path}`, or restore the store that belongs to this log", path = path.display()
    )]
    LogWasTooShort { view: String, position: u64, end: u64, path: PathBuf },
    #[error("`{path}` cannot be used: {reason}", path = path.display())]
    UncheckedEnd { path: PathBuf, reason: String },
    #[error(
        "view `{view}` is at position {position}, but the log begins at {begin}: the events between are gone. Restore the log, or a newer copy of the store. If you have neither, start with a new, empty store and `--accept-new-log` to build all views from the remaining events"
    )]
    LogTooLate { view: String, position: u64, begin: u64 },
    #[error(
        "the store holds nothing of this log, whose earlier events were deleted by `[retention]`, so that a new store would be incomplete. Restore a copy of the store, or start with `--accept-new-log` to build the views from the remaining events"
    )]
    StoreWithoutHistory,
    #[error(
        "the store was built from log {known}, which is not in the data folder (log {found} is). Restore it, or start with `--accept-new-log` if it is lost for good or feeds this store from another machine"
    )]
    OtherLog { known: String, found: String },
    #[error("the store does not answer: {0}")]
    Store(#[from] StoreError),
}

/// Creates the data folder for its owner alone, and excludes it from version control.
pub fn data_folder(path: &Path) -> Result<(), StartError> {
    let wrong =
        |error: std::io::Error| StartError::DataFolder { path: path.to_owned(), reason: error.to_string() };
    if !path.exists() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(wrong)?;
        failpoint::hit("server.folder_made");
        tracing::info!(folder = %path.display(), "data folder created");
    }
    // An empty folder may come from the user, or from a start that was killed. A folder with other files does not
    // belong to millrace alone, and those files may be under version control.
    let ignored = path.join(".gitignore");
    let empty = std::fs::read_dir(path).map_err(wrong)?.next().is_none();
    if empty && let Err(error) = std::fs::write(&ignored, "*\n") {
        // The disk may be full, for example. The server can start all the same.
        tracing::warn!(file = %ignored.display(), %error, "the data folder is not excluded from version control");
    }
    sync_parents(path);
    let mode = std::fs::metadata(path).map_err(wrong)?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(
            folder = %path.display(),
            mode = format!("{:o}", mode & 0o777),
            "other users of this machine can access the data folder; run `chmod 700` on it"
        );
    }
    Ok(())
}

/// Syncs the folder and all its parents. A power cut may remove a folder whose name was never synced, with all
/// durable data in it. This is done at every start, because the start that created the folder may have been killed
/// before. A parent that cannot be opened existed before and needs no sync.
fn sync_parents(path: &Path) {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    for folder in whole.ancestors() {
        if let Ok(folder) = std::fs::File::open(folder) {
            let _ = folder.sync_all();
        }
    }
}

/// Warns if the process may use so little address space that threads cannot start. A thread reserves much more than it
/// uses, so a limit on memory itself does not have this effect.
pub fn address_space() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::As).current;
    if let Some(limit) = limit.filter(|limit| *limit < ADDRESS_SPACE_BYTES_MIN) {
        tracing::warn!(
            limit_mib = limit / (1024 * 1024),
            needed_mib = ADDRESS_SPACE_BYTES_MIN / (1024 * 1024),
            "the limit on address space is low (`ulimit -v`), and threads may fail to start; raise it, and limit memory with `MemoryMax=` of systemd instead"
        );
    }
}

/// Fails if the log and the store do not belong together. A position is valid in its own log only: with another log,
/// events would be counted twice or skipped. `unchecked` has the end of a log that may have grown without this check.
pub async fn positions(
    log: &EventLog,
    unchecked: Option<&UncheckedEnd>,
    report: &OpenReport,
    store: &Store,
    accept_new: bool,
) -> Result<(), StartError> {
    let rows = store.positions().await?;
    let (of_this_log, others): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.log == log.id());
    for row in &of_this_log {
        let (view, position) = (|| shown_name(&row.view).to_owned(), row.position);
        if position > log.end() {
            return Err(StartError::LogTooShort { view: view(), position, end: log.end() });
        }
        if let Some(unchecked) = unchecked.filter(|unchecked| position > unchecked.end()) {
            let (end, path) = (unchecked.end(), unchecked.path().to_owned());
            return Err(StartError::LogWasTooShort { view: view(), position, end, path });
        }
        if row.position < log.begin() {
            return Err(StartError::LogTooLate {
                view: shown_name(&row.view).to_owned(),
                position: row.position,
                begin: log.begin(),
            });
        }
    }
    if !of_this_log.is_empty() {
        return Ok(());
    }
    match others.first() {
        Some(other) if !accept_new => {
            return Err(StartError::OtherLog { known: other.log.to_string(), found: log.id().to_string() });
        }
        Some(_) => {
            tracing::warn!(
                log = %log.id(),
                new = report.created,
                "the store knows another log; this one is used in addition to it"
            );
        }
        None => {}
    }
    check_deleted_history(log, store, accept_new).await
}

/// Fails if retention has deleted events from the log that this store has never counted. A new store would lack them.
async fn check_deleted_history(log: &EventLog, store: &Store, accept_new: bool) -> Result<(), StartError> {
    let mut deleted = log.ages().streams_with_deletions();
    if log.begin() > 0 {
        deleted.insert(LOG_DELETED.to_owned());
    }
    for name in deleted {
        if store.deleted_history(&name, log.id()).await?.is_some() {
            continue;
        }
        if !accept_new {
            return Err(StartError::StoreWithoutHistory);
        }
        // Later checks must know that no view of this store was built from all events.
        let some = DeletedHistory { position: log.end(), blanked: log.begin() };
        store.note_deleted_history(&name, log.id(), some).await?;
    }
    Ok(())
}

/// Warns of views that have a position in the store but are no longer configured.
pub async fn undeclared_views(config: &Config, store: &Store) -> Result<(), StoreError> {
    let rows = store.positions().await?;
    let views: BTreeSet<&str> = rows.iter().map(|row| row.view.as_str()).collect();
    let declared =
        |view: &str| view == DEDUP_STORED_NAME || config.views.contains_key(view) || view.ends_with(SHADOW);
    for view in views.into_iter().filter(|view| !declared(view)) {
        tracing::warn!(
            view,
            "a view is no longer configured, but its position still blocks retention; run `millrace view drop {view}`"
        );
    }
    Ok(())
}

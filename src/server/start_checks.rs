//! What has to hold before a server starts: the rules for listening, a private data folder, and a log
//! and a store that belong together.

use std::collections::BTreeSet;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use journal::failpoint;

use super::Settings;
use super::tls::TlsError;
use crate::admission::weak_key;
use crate::config::Config;
use crate::dedup::STORED_NAME;
use crate::log::{EventLog, OpenReport};
use crate::store::{DeletedHistory, LOG_DELETED, Store, StoreError};
use crate::views::SHADOW;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("`--dev` opens every source and therefore listens on loopback addresses only, not on {0}")]
    DevBeyondLoopback(String),
    #[error(
        "{0} is reachable from other machines and would be served without encryption; say `https://` and name a certificate under `[tls]`, or put a proxy with TLS before it and say `--behind-proxy`"
    )]
    NoTls(String),
    #[error("`[tls]`: {0}")]
    Tls(#[from] TlsError),
    #[error(
        "{opened} is open, and {address} is reachable from other machines; give it `access = \"key\"`, or `public = true` if that is meant"
    )]
    OpenBeyondLoopback { opened: String, address: String },
    #[error(
        "`API_KEY` is shorter than 20 characters, and {0} is reachable from other machines; take a longer one, or keys of millrace's own"
    )]
    WeakKey(String),
    #[error("the data folder `{path}` cannot be used: {reason}", path = path.display())]
    DataFolder { path: PathBuf, reason: String },
    #[error(
        "view `{view}` has applied the log up to position {position}, but the log ends at {end}: the log is older than the store. Restore the newer log, or the store that belongs to this one"
    )]
    LogTooShort { view: String, position: u64, end: u64 },
    #[error(
        "view `{view}` stands at position {position}, but the log begins at {begin}: what lies between is gone. Restore the log, or drop the view's table and its row in `millrace_positions`"
    )]
    LogTooLate { view: String, position: u64, begin: u64 },
    #[error(
        "the store holds nothing of this log, whose earlier events were deleted by `[retention]`, so that a new store would be incomplete. Restore a copy of the store, or start with `--accept-new-log` to build the views from the remaining events"
    )]
    StoreWithoutPast,
    #[error(
        "the store holds what was made of log {known}, which is not in the data folder (there is log {found}). Restore it; or, if it is gone for good or feeds this store from another machine, say `--accept-new-log`"
    )]
    OtherLog { known: String, found: String },
    #[error("the store does not answer: {0}")]
    Store(#[from] StoreError),
}

pub fn settings(settings: &Settings) -> Result<(), StartError> {
    if settings.dev {
        tracing::warn!("--dev: every source is open to this machine, without a key");
    }
    if settings.config.tls.is_some() && !settings.config.listen.iter().any(|listen| listen.tls) {
        tracing::warn!("`[tls]` is declared, but no address under `listen` is `https://`");
    }
    let beyond = || settings.config.listen.iter().filter(|listen| !listen.is_loopback());
    let plain = beyond().find(|listen| !listen.tls).map(ToString::to_string);
    let Some(beyond) = beyond().next().map(ToString::to_string) else { return Ok(()) };
    if settings.dev {
        return Err(StartError::DevBeyondLoopback(beyond));
    }
    if let (Some(plain), false) = (plain, settings.behind_proxy) {
        return Err(StartError::NoTls(plain));
    }
    if let Some(opened) = settings.config.opened().into_iter().next() {
        return Err(StartError::OpenBeyondLoopback { opened, address: beyond });
    }
    match settings.legacy_env.api_key.as_deref().is_some_and(weak_key) {
        true => Err(StartError::WeakKey(beyond)),
        false => Ok(()),
    }
}

/// Makes the folder, for its owner alone, and keeps it out of version control.
pub fn data_folder(path: &Path) -> Result<(), StartError> {
    let wrong =
        |error: std::io::Error| StartError::DataFolder { path: path.to_owned(), reason: error.to_string() };
    if !path.exists() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(wrong)?;
        failpoint::hit("server.folder_made");
        tracing::info!(folder = %path.display(), "data folder made");
    }
    // Also in a folder that somebody else made, or that a kill left empty; but one that holds other things
    // is not ours alone, and what is in it may well be meant for version control.
    let ignored = path.join(".gitignore");
    let empty = std::fs::read_dir(path).map_err(wrong)?.next().is_none();
    if empty && let Err(error) = std::fs::write(&ignored, "*\n") {
        // A full disk, say: no reason not to start again with what is there.
        tracing::warn!(file = %ignored.display(), %error, "the data folder is not kept out of version control");
    }
    sync_names_above(path);
    let mode = std::fs::metadata(path).map_err(wrong)?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(folder = %path.display(), mode = format!("{:o}", mode & 0o777), "the data folder is open to other users of this machine");
    }
    Ok(())
}

/// A power cut may take a folder whose own name was never synced, with all that is durable in it. At
/// every start, because the one that made the folder may have been killed before it came to this. A folder
/// above that may not be opened was there before, and is not ours to sync.
fn sync_names_above(path: &Path) {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    for folder in whole.ancestors() {
        if let Ok(folder) = std::fs::File::open(folder) {
            let _ = folder.sync_all();
        }
    }
}

/// A position means something only in its own log: anything else would count twice, or leave out.
pub async fn positions(
    log: &EventLog,
    found: &OpenReport,
    store: &Store,
    accept_new: bool,
) -> Result<(), StartError> {
    let rows = store.positions().await?;
    let (ours, others): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.log == log.id());
    for row in &ours {
        if row.position > log.end() {
            return Err(StartError::LogTooShort {
                view: row.view.clone(),
                position: row.position,
                end: log.end(),
            });
        }
        if row.position < log.begin() {
            return Err(StartError::LogTooLate {
                view: row.view.clone(),
                position: row.position,
                begin: log.begin(),
            });
        }
    }
    if !ours.is_empty() {
        return Ok(());
    }
    match others.first() {
        Some(other) if !accept_new => {
            return Err(StartError::OtherLog { known: other.log.to_string(), found: log.id().to_string() });
        }
        Some(_) => {
            tracing::warn!(log = %log.id(), new = found.created, "a log that the store has not met goes on beside the one it knows");
        }
        None => {}
    }
    history_lock(log, store, accept_new).await
}

/// A new store lacks the events that retention has deleted from the log. The old one knew of them.
async fn history_lock(log: &EventLog, store: &Store, accept_new: bool) -> Result<(), StartError> {
    let mut deleted = log.ages().given_up();
    if log.begin() > 0 {
        deleted.insert(LOG_DELETED.to_owned());
    }
    for name in deleted {
        if store.deleted_history(&name, log.id()).await?.is_some() {
            continue;
        }
        if !accept_new {
            return Err(StartError::StoreWithoutPast);
        }
        // So that no view passes for one that was made of all events.
        let some = DeletedHistory { position: log.end(), blanked: log.begin() };
        store.note_deleted_history(&name, log.id(), some).await?;
    }
    Ok(())
}

/// Tells of views that keep their place in the store though nobody declares them any more.
pub async fn undeclared(config: &Config, store: &Store) -> Result<(), StoreError> {
    let rows = store.positions().await?;
    let views: BTreeSet<&str> = rows.iter().map(|row| row.view.as_str()).collect();
    let declared =
        |view: &str| view == STORED_NAME || config.views.contains_key(view) || view.ends_with(SHADOW);
    for view in views.into_iter().filter(|view| !declared(view)) {
        tracing::warn!(
            view,
            "a view is no longer declared and keeps its place: what it has not applied is not given up; `millrace drop-view {view}` forgets it"
        );
    }
    Ok(())
}

//! The server: opens log and store, starts deduplicator, views and sources, and serves. It stops them in an order
//! that loses nothing. This is the only module that knows all the others.

mod config_check;
mod connections;
mod greeting;
mod idle_timeout;
mod in_process;
mod node;
mod open_connections;
mod outage;
mod request_guard;
mod response_budget;
mod route_policy;
mod router;
mod sighup;
mod start_checks;
mod storage;
mod store_watch;
mod tls;
mod unchecked_end;

use std::path::PathBuf;

use event::Stop;
use event::limits::LOG_FAILED_ANSWERS_DURATION_MAX;

use crate::admission::KeyError;
use crate::config::{Config, LegacyEnv, UsedVariable};
use crate::http::Sockets;
use crate::log;
use crate::store::{self, Password, StoreError};
use crate::telemetry;

use node::Node;
use storage::Storage;
use tls::Certificate;

pub use crate::store::{OpenError, StoreInspection};
pub use config_check::{Exposure, check_config, inspect_store};
pub use in_process::InProcess;
pub use start_checks::{StartError, address_space};

/// The settings of a server. [`check_config`] has checked the configuration.
pub struct Settings {
    pub data: PathBuf,
    pub config: Config,
    pub legacy_env: LegacyEnv,
    /// About the configuration, for the log.
    pub warnings: Vec<String>,
    pub dev: bool,
    pub accept_new_log: bool,
    /// Print a greeting on stdout.
    pub welcome: bool,
}

/// Why a server did not start, or stopped with an error.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Log(#[from] log::OpenError),
    #[error(transparent)]
    Store(#[from] store::OpenError),
    #[error("the store does not answer: {0}")]
    StoreDown(#[from] store::StoreError),
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error("cannot listen on {address}: {reason}")]
    Listen { address: String, reason: String },
    #[error("{0}")]
    System(#[from] std::io::Error),
    #[error("the log has failed: {0}")]
    LogFailed(String),
    #[error(
        "the store has failed: {0}. Restore the file or start the server again; the views catch up from the log"
    )]
    StoreFailed(String),
}

impl ServeError {
    /// Returns the reason if the store does not answer now; otherwise the error, which does not pass by itself.
    fn unreachable(self) -> Result<String, Self> {
        match self {
            Self::Store(store::OpenError::Unreachable { reason, .. })
            | Self::StoreDown(StoreError::Transient(reason))
            | Self::Keys(KeyError::Store(StoreError::Transient(reason)))
            | Self::Start(StartError::Store(StoreError::Transient(reason))) => Ok(reason),
            error => Err(error),
        }
    }
}

/// Serves until a signal stops the process, or the log or the store fails.
pub async fn run(settings: Settings) -> Result<(), ServeError> {
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "millrace starts");
    let hangups = sighup::hangups()?;
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    let certificate =
        settings.config.tls.as_ref().map(Certificate::load).transpose().map_err(StartError::Tls)?;
    for UsedVariable { name, in_file } in &settings.legacy_env.used {
        let from = if *in_file { ".env" } else { "the environment" };
        tracing::info!(variable = *name, from, "setting of a replaced service is used");
    }
    for reason in &settings.legacy_env.unusable {
        tracing::warn!(reason, "setting of a replaced service is ignored");
    }
    let metrics = telemetry::start_metrics();
    let mut signals = connections::stop_signals()?;
    let accepting = Stop::default();
    let password = Password::new(settings.config.store.password.clone());
    tokio::spawn(sighup::reload_at_hangup(hangups, certificate.clone(), password.clone(), accepting.clone()));
    let (listeners, addresses) = connections::bind(&settings.config.listen, certificate.as_ref()).await?;
    let storage = tokio::select! {
        storage = Storage::open(&settings, &password) => storage?,
        signal = signals.wait() => {
            tracing::info!(signal, "stopped before the start was complete");
            return Ok(());
        }
    };
    let first_key = storage.keys.first_is_new();
    let node = Node::open(&settings, metrics, storage).await?;
    let capacity = connections::capacity();
    let sockets = Sockets::new(capacity.sockets, capacity.connections / 2, &accepting);
    let router = node.router(&settings, &accepting, &sockets);
    if let Some(certificate) = &certificate {
        certificate.reload_when_changed(&accepting);
    }
    let serving = connections::serve(listeners, router, &accepting, capacity.connections);
    tracing::info!(addresses = addresses.join(" "), "listening");
    if settings.welcome {
        greeting::print(&settings, &addresses, first_key);
    }
    let outcome = tokio::select! {
        signal = signals.wait() => {
            tracing::info!(signal, "stopping: no new connections; waiting for pending requests");
            Ok(())
        }
        reason = node.log.failed() => {
            tracing::error!(reason, "the log has failed: no more events are accepted, and the server stops");
            // Until then, requests are refused with the reason.
            drop(tokio::time::timeout(LOG_FAILED_ANSWERS_DURATION_MAX, signals.wait()).await);
            Err(ServeError::LogFailed(reason))
        }
        reason = node.store.failed() => {
            tracing::error!(reason, "the store has failed: the server stops");
            Err(ServeError::StoreFailed(reason))
        }
    };
    tokio::spawn(signals.exit_at_the_next());
    accepting.ask();
    node.hurry_views();
    tokio::join!(serving.drained(), connections::close_sockets(&sockets));
    let closed = node.close(outcome.is_ok()).await;
    // A failed log is reported before a failed store, because the store can be rebuilt from the log.
    closed.and(outcome)
}

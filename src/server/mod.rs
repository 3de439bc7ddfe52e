//! The server: opens log and store, starts deduplicator, views and sources, and serves. It stops them in an order
//! that loses nothing. This is the only module that knows all the others.

mod config_check;
mod connections;
mod greeting;
mod idle_timeout;
mod in_process;
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

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use event::limits::{
    BATCHES_BYTES_MAX, LOG_FAILED_ANSWERS_DURATION_MAX, LOG_REPLAYS_AT_ONCE_MAX, RANGES_AT_ONCE_MAX,
    READS_AT_ONCE_MAX, STOP_VIEWS_DURATION_MAX,
};
use event::{Progress, Stop};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use crate::admission::{Admission, CorrectionTargets, KeyError, Keys, RecentIds, StreamIntake};
use crate::api::{self, About, Api};
use crate::config::{Config, LegacyEnv, Streams, UsedVariable};
use crate::dedup::{Dedup, Windows};
use crate::log::{self, EventLog};
use crate::sources::native::{self, NativeSource};
use crate::store::{self, DEDUP_NAME, Password, Store, StoreError, StoreHealth};
use crate::telemetry;
use crate::views::{Definition, Eraser, ErasureKey, Erasures, Retention, Runner, Running, View};

use request_guard::RequestGuard;
use router::RequestRouter;
use storage::{Preparation, Storage};
use store_watch::StoreWatch;
use tls::Certificate;

pub use crate::store::{OpenError, StoreInspection};
pub use config_check::{Exposure, check_config, inspect_store};
pub use in_process::InProcess;
pub use start_checks::{StartError, address_space};

const METRICS_UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

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
    let router = node.router(&settings, &accepting);
    if let Some(certificate) = &certificate {
        certificate.reload_when_changed(&accepting);
    }
    let serving = connections::serve(listeners, router, &accepting);
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
    serving.drained().await;
    let closed = node.close(outcome.is_ok()).await;
    // A failed log is reported before a failed store, because the store can be rebuilt from the log.
    closed.and(outcome)
}

/// Everything that runs behind the listeners.
struct Node {
    log: EventLog,
    store: Store,
    keys: Keys,
    progress: Progress,
    health: StoreHealth,
    streams: Streams,
    views: BTreeMap<String, Running>,
    erasures: Option<Erasures>,
    threads: Vec<JoinHandle<()>>,
    stop: Stop,
    metrics: PrometheusHandle,
}

impl Node {
    /// Starts the node. Steps that may fail come before the threads where possible: threads use the runtime, and must
    /// have ended before a failure drops it.
    async fn open(
        settings: &Settings,
        metrics: PrometheusHandle,
        storage: Storage,
    ) -> Result<Self, ServeError> {
        let config = &settings.config;
        let Storage { log, store, keys, preparation } = storage;
        api::clear_backups(&settings.data);
        let (stop, progress, runtime) = (Stop::default(), Progress::default(), Handle::current());
        let dedup_progress = progress.register_dedup(DEDUP_NAME);
        let windows = Windows { default: config.dedup_window, all: config.windows() };
        let (dedup, thread) = Dedup::start(&log, &store, windows, dedup_progress, &stop, runtime.clone())?;
        let mut node = Self {
            log,
            store,
            keys,
            progress,
            health: StoreHealth::default(),
            streams: config.streams.clone(),
            views: BTreeMap::new(),
            erasures: None,
            threads: vec![thread],
            stop,
            metrics,
        };
        let budget = Arc::new(Semaphore::new(BATCHES_BYTES_MAX));
        for view in config.views.values() {
            if let Err(error) = node.start_view(view.clone(), &dedup, &budget, &runtime) {
                drop(node.close(false).await);
                return Err(error);
            }
        }
        if let Err(error) = node.start_upkeep(config, &settings.data, &runtime) {
            drop(node.close(false).await);
            return Err(error);
        }
        node.start_metrics_upkeep();
        node.watch_store(preparation);
        Ok(node)
    }

    fn start_view(
        &mut self,
        view: View,
        dedup: &Dedup,
        budget: &Arc<Semaphore>,
        runtime: &Handle,
    ) -> Result<(), ServeError> {
        let fields = Arc::clone(&self.streams[&view.stream]);
        let runner = Runner {
            definition: Arc::new(Definition::of(&view, &fields)),
            fields,
            log: self.log.clone(),
            store: self.store.clone(),
            dedup: dedup.clone(),
            progress: self.progress.register(&view.name, &view.stream),
            budget: Arc::clone(budget),
            stop: self.stop.clone(),
            runtime: runtime.clone(),
            view,
        };
        tracing::info!(view = runner.view.name, stream = runner.view.stream, "view runs");
        let (running, thread) = runner.start()?;
        self.views.insert(running.view.name.clone(), running);
        self.threads.push(thread);
        Ok(())
    }

    /// Starts retention, and the erasures that an earlier process did not finish.
    fn start_upkeep(&mut self, config: &Config, data: &Path, runtime: &Handle) -> Result<(), ServeError> {
        let retention = Retention {
            policy: config.retention.clone(),
            views: config.views.clone(),
            ages: self.log.ages().clone(),
            log: self.log.clone(),
            store: self.store.clone(),
            progress: self.progress.clone(),
            runtime: runtime.clone(),
            stop: self.stop.clone(),
        };
        self.threads.extend(retention.start()?);
        let eraser = Eraser {
            log: self.log.clone(),
            store: self.store.clone(),
            progress: self.progress.clone(),
            streams: self.streams.clone(),
            views: self.views.clone(),
            key: ErasureKey::new(data.join("erasure-key")),
            runtime: runtime.clone(),
            stop: self.stop.clone(),
        };
        let (erasures, thread) = Erasures::start(eraser)?;
        self.erasures = Some(erasures);
        self.threads.push(thread);
        Ok(())
    }

    fn watch_store(&self, preparation: watch::Receiver<Preparation>) {
        let watch = StoreWatch {
            log: self.log.clone(),
            store: self.store.clone(),
            keys: self.keys.clone(),
            progress: self.progress.clone(),
            health: self.health.clone(),
            preparation,
            stop: self.stop.clone(),
        };
        watch.start();
    }

    fn start_metrics_upkeep(&self) {
        let (metrics, stop) = (self.metrics.clone(), self.stop.clone());
        tokio::spawn(async move {
            while !stop.within(METRICS_UPKEEP_INTERVAL).await {
                metrics.run_upkeep();
            }
        });
    }

    /// Builds the router. `stopping` ends requests that wait for events, which may never come.
    fn router(&self, settings: &Settings, stopping: &Stop) -> RequestRouter {
        let admission = Arc::new(Admission {
            keys: self.keys.clone(),
            log: self.log.clone(),
            streams: self
                .streams
                .iter()
                .map(|(name, fields)| (name.clone(), StreamIntake::new(name, fields)))
                .collect(),
            progress: self.progress.clone(),
            recent_ids: RecentIds::new(self.store.clone(), settings.config.dedup_window),
            correction_targets: CorrectionTargets::new(
                self.log.clone(),
                self.store.clone(),
                self.progress.clone(),
            ),
        });
        let api = Arc::new(Api {
            about: About::starting_now(&settings.config),
            keys: self.keys.clone(),
            log: self.log.clone(),
            store: self.store.clone(),
            progress: self.progress.clone(),
            health: self.health.clone(),
            streams: self.streams.clone(),
            views: self.views.clone(),
            erasures: self.erasures.clone().expect("started when the node opened"),
            metrics: self.metrics.clone(),
            runtime: Handle::current(),
            log_reads: Arc::new(Semaphore::new(READS_AT_ONCE_MAX)),
            log_replays: Arc::new(Semaphore::new(LOG_REPLAYS_AT_ONCE_MAX)),
            backups: Arc::new(Semaphore::new(1)),
            dead_letter_counts: Arc::new(Semaphore::new(1)),
            data: settings.data.clone(),
            long_ranges: Semaphore::new(RANGES_AT_ONCE_MAX),
            stopping: stopping.clone(),
        });
        let config = &settings.config;
        let native = NativeSource { admission: Arc::clone(&admission), stopping: stopping.clone() };
        let routes = native::routes(native).merge(api::routes(&api, config.reads.values()));
        let guard = RequestGuard::new(config, &self.keys);
        RequestRouter::new(guard, admission, route_policy::sources(config), routes)
    }

    /// Lets no event wait for a batch of a view any more, because a stop must not wait for it.
    fn hurry_views(&self) {
        self.views.values().for_each(|running| running.hurry(u64::MAX));
    }

    /// Stops the views, then the log, then the store. With `drain`, the views may apply the rest of the log first.
    /// Fails if the log could not be closed cleanly, or if the store has failed.
    async fn close(self, drain: bool) -> Result<(), ServeError> {
        if drain {
            self.hurry_views();
            let end = self.log.end();
            if self.progress.drained(end, STOP_VIEWS_DURATION_MAX).await {
                tracing::info!(end, "views have applied everything");
            } else {
                tracing::warn!("views have not applied everything yet; they continue at the next start");
            }
        }
        self.stop.ask();
        let (log, store, threads) = (self.log, self.store, self.threads);
        let ended = tokio::task::spawn_blocking(move || {
            for thread in threads {
                // No thread ends with a panic, which would have ended the process.
                drop(thread.join());
            }
            let log = log.close().map_err(ServeError::LogFailed);
            store.close();
            log.and(store.failure().map_or(Ok(()), |reason| Err(ServeError::StoreFailed(reason))))
        });
        let closed = ended.await.unwrap_or_else(|error| Err(ServeError::LogFailed(error.to_string())));
        if let Err(error) = &closed {
            tracing::error!(%error, "the server did not stop cleanly");
        }
        tracing::info!("millrace has stopped");
        closed
    }
}

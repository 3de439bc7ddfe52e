//! The node: log, store, deduplicator and views, with the sources and the API on top of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use event::limits::{
    BATCHES_BYTES_MAX, LOG_REPLAYS_AT_ONCE_MAX, RANGES_AT_ONCE_MAX, READS_AT_ONCE_MAX,
    STOP_VIEWS_DURATION_MAX,
};
use event::{Progress, Stop};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use super::request_guard::RequestGuard;
use super::route_policy;
use super::router::RequestRouter;
use super::storage::{Preparation, Storage};
use super::store_watch::StoreWatch;
use super::{ServeError, Settings};
use crate::admission::{Admission, CorrectionTargets, Keys, RecentIds, StreamIntake};
use crate::alerts::{AlertWatch, Alerts};
use crate::api::{self, About, Api};
use crate::config::{Config, Streams};
use crate::dedup::{Dedup, Windows};
use crate::delivery::{self, Delivery, DeliveryEnd};
use crate::http::{RateLimits, Sockets};
use crate::live::Live;
use crate::log::EventLog;
use crate::sources::native::{self, NativeSource};
use crate::sources::{SocketServices, websocket_routes};
use crate::store::{DEDUP_NAME, Store, StoreHealth};
use crate::views::{Changes, Definition, Eraser, ErasureKey, Erasures, Retention, Runner, Running, View};

const METRICS_UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Everything that runs behind the listeners.
pub struct Node {
    pub log: EventLog,
    pub store: Store,
    keys: Keys,
    progress: Progress,
    health: StoreHealth,
    streams: Streams,
    views: BTreeMap<String, Running>,
    erasures: Option<Erasures>,
    /// Changes when a view has queued notifications.
    queued: watch::Sender<()>,
    delivery: Option<(Delivery, DeliveryEnd)>,
    alerts: Alerts,
    threads: Vec<JoinHandle<()>>,
    stop: Stop,
    metrics: PrometheusHandle,
}

impl Node {
    /// Starts the node. Steps that may fail come before the threads where possible: threads use the runtime, and must
    /// have ended before a failure drops it.
    pub async fn open(
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
            queued: watch::Sender::new(()),
            delivery: None,
            alerts: Alerts::new(config.alerts.clone()),
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
        node.start_delivery(config);
        node.start_metrics_upkeep();
        node.watch_store(preparation);
        node.watch_for_alerts(config, &settings.data);
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
            changes: Changes::default(),
            queued: self.queued.clone(),
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

    fn start_delivery(&mut self, config: &Config) {
        self.delivery = Some(Delivery::start(delivery::Settings {
            store: self.store.clone(),
            owner: self.log.id(),
            destinations: &config.destinations,
            views: &self.views,
            queued: self.queued.clone(),
        }));
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

    fn watch_for_alerts(&self, config: &Config, data: &Path) {
        let waits = |view: &View| Some((view.name.clone(), view.batch?.age));
        let watch = AlertWatch {
            alerts: self.alerts.clone(),
            data: data.to_owned(),
            progress: self.progress.clone(),
            health: self.health.clone(),
            store: self.store.clone(),
            waits: config.views.values().filter_map(waits).collect(),
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
    pub fn router(&self, settings: &Settings, stopping: &Stop, sockets: &Sockets) -> RequestRouter {
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
        let live = Live::start(&self.log, &self.store, &self.streams, &self.views, stopping);
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
            live: live.clone(),
            delivery: self.delivery.as_ref().expect("started when the node opened").0.clone(),
            alerts: self.alerts.clone(),
            sockets: sockets.clone(),
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
        let rates = Arc::new(RateLimits::new(config.limits));
        let guard = RequestGuard::new(config, &self.keys, &rates);
        let services = SocketServices {
            admission: Arc::clone(&admission),
            sockets: sockets.clone(),
            live,
            rates,
            hosts: config.hosts.clone(),
        };
        for (name, source) in &config.sources {
            let (kind, path) = (source.kind_name(), source.path());
            tracing::info!(source = name, kind, path, "source runs");
        }
        let sources = route_policy::sources(config, &services);
        let routes = native::routes(native)
            .merge(websocket_routes(services))
            .merge(api::routes(&api, config.reads.values()));
        RequestRouter::new(guard, admission, sources, routes)
    }

    /// Lets no event wait for a batch of a view any more, because a stop must not wait for it.
    pub fn hurry_views(&self) {
        self.views.values().for_each(|running| running.hurry(u64::MAX));
    }

    /// Stops the views, then the log, then the store. With `drain`, the views may apply the rest of the log first.
    /// Fails if the log could not be closed cleanly, or if the store has failed.
    pub async fn close(self, drain: bool) -> Result<(), ServeError> {
        if drain {
            self.hurry_views();
            let end = self.log.end();
            if self.progress.drained(end, STOP_VIEWS_DURATION_MAX).await {
                tracing::info!(end, "views have applied everything");
            } else {
                tracing::warn!("views have not applied everything yet; they continue at the next start");
            }
        }
        if let Some((_, delivery)) = self.delivery {
            delivery.close().await;
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

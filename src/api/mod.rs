//! Reading and administration of a running server over HTTP, a file per resource.

mod alerts;
mod backup;
mod contract_reads;
mod dead_letters;
mod delivery_state;
mod destinations;
mod erasures;
mod error_conversions;
mod event_state;
mod events;
mod health;
mod keys;
mod live;
mod live_connection;
mod notifications;
mod preview;
mod rows;
mod stats;
mod status;
mod streams;
mod tokens;
mod uploads;
mod view_access;
mod view_definition;
mod views;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use event::limits::METRICS_STORE_DURATION_MAX;
use event::{Fields, PositionState, Progress, Stop};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::admission::{Keys, Refusal};
use crate::alerts::Alerts;
use crate::config::ReadConfig;
use crate::delivery::Delivery;
use crate::http::{ApiError, HasKeys, Sockets};
use crate::live::Live;
use crate::log::EventLog;
use crate::store::{Store, StoreError, StoreHealth};
use crate::views::{Erasures, Running};

pub use backup::clear as clear_backups;
pub use status::About;

/// All that the API needs.
pub struct Api {
    pub about: About,
    pub keys: Keys,
    pub log: EventLog,
    pub store: Store,
    pub progress: Progress,
    pub health: StoreHealth,
    pub streams: BTreeMap<String, Arc<Fields>>,
    pub views: BTreeMap<String, Running>,
    pub erasures: Erasures,
    pub live: Live,
    pub delivery: Delivery,
    pub alerts: Alerts,
    /// The places of connections that stay open.
    pub sockets: Sockets,
    pub metrics: PrometheusHandle,
    pub runtime: Handle,
    /// Permits to read the log.
    pub log_reads: Arc<Semaphore>,
    /// Permits to replay the whole log.
    pub log_replays: Arc<Semaphore>,
    /// The permit to take a backup.
    pub backups: Arc<Semaphore>,
    /// The permit to count dead letters, which may outlive its request.
    pub dead_letter_counts: Arc<Semaphore>,
    /// The data folder, where a backup keeps its temporary files.
    pub data: PathBuf,
    /// Permits to add up long ranges of days.
    pub long_ranges: Semaphore,
    /// Set when pending requests have to finish.
    pub stopping: Stop,
}

impl HasKeys for Arc<Api> {
    fn keys(&self) -> &Keys {
        &self.keys
    }
}

pub fn routes<'r>(api: &Arc<Api>, reads: impl Iterator<Item = &'r ReadConfig>) -> Router {
    let routes = Router::new()
        .merge(health::routes(api))
        .merge(status::routes(api))
        .merge(streams::routes(api))
        .merge(views::routes(api))
        .merge(view_definition::routes(api))
        .merge(stats::routes(api))
        .merge(rows::routes(api))
        .merge(notifications::routes(api))
        .merge(preview::routes(api))
        .merge(events::routes(api))
        .merge(uploads::routes(api))
        .merge(dead_letters::routes(api))
        .merge(destinations::routes(api))
        .merge(alerts::routes(api))
        .merge(erasures::routes(api))
        .merge(keys::routes(api))
        .merge(live::routes(api))
        .merge(tokens::routes(api))
        .merge(backup::routes(api));
    reads.fold(routes, |routes, read| routes.merge(contract_reads::routes(api, read)))
}

impl Api {
    fn view(&self, name: &str) -> Result<&Running, ApiError> {
        self.views.get(name).ok_or_else(|| ApiError::not_found(format!("there is no view `{name}`")))
    }

    fn fields(&self, stream: &str) -> Result<&Arc<Fields>, ApiError> {
        let unknown = || ApiError::not_found(format!("there is no stream `{stream}`"));
        self.streams.get(stream).ok_or_else(unknown)
    }

    /// Returns the states of dedup and of all views, by name.
    fn position_states(&self) -> BTreeMap<String, PositionState> {
        self.progress.states(self.log.end())
    }

    /// Counts the open dead letters. Returns `None` if the store does not answer in time, or if another request counts
    /// them now. A read of a file cannot be cut short, so it keeps its permit.
    async fn open_dead_letters(&self) -> Option<i64> {
        let permit = Arc::clone(&self.dead_letter_counts).try_acquire_owned().ok()?;
        let store = self.store.clone();
        let open = tokio::spawn(async move {
            let _permit = permit;
            store.open_dead_letters().await
        });
        tokio::time::timeout(METRICS_STORE_DURATION_MAX, open).await.ok()?.ok()?.ok()
    }

    /// Returns no rows if the view has not begun, and has no table yet.
    async fn rows_of<T: Default>(&self, view: &str, read: Result<T, StoreError>) -> Result<T, ApiError> {
        Ok(self.store.nothing_until_begun(view, read).await?)
    }

    /// Runs work that reads the log, which blocks, when a permit is free. The work keeps its permit until it ends,
    /// even if the client disconnects.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        permits: &Arc<Semaphore>,
        work: impl FnOnce(&Self) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let api = Arc::clone(self);
        let permit = Arc::clone(permits).acquire_owned().await.map_err(|_| Refusal::Stopping)?;
        let work = move || {
            let _permit = permit;
            work(&api)
        };
        tokio::task::spawn_blocking(work).await.unwrap_or(Err(Refusal::Stopping.into()))
    }
}

/// A response whose body is JSON text already, so that its numbers keep all their digits.
struct JsonText(String);

impl IntoResponse for JsonText {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], self.0).into_response()
    }
}

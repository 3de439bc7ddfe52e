//! What can be read of a running server, and what an administrator can ask of it: views, receipts, the
//! tail of a stream, dead letters, keys, health.

mod backup;
mod dead_letters;
mod erasures;
mod events;
mod health;
mod http_error;
mod keys;
mod notifications;
mod read;
mod rows;
mod sources;
mod stats;
mod views;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use event::{Fields, Progress, Stop};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::admit::{Key, Keys, Refusal, Scope, body};
use crate::eventlog::EventLog;
use crate::store::{Store, StoreError, quote};
use crate::views::{Erasures, Running};

pub use backup::clear as clear_backups;
pub use read::{Read, Shape};

/// What the reading API needs.
pub struct Reading {
    pub keys: Keys,
    pub log: EventLog,
    pub store: Store,
    pub progress: Progress,
    pub streams: BTreeMap<String, Arc<Fields>>,
    pub views: BTreeMap<String, Running>,
    pub erasures: Erasures,
    pub metrics: PrometheusHandle,
    pub runtime: Handle,
    /// Turns at reading the log, and at replaying it whole.
    pub reads: Arc<Semaphore>,
    pub replays: Arc<Semaphore>,
    /// The turn at taking a backup, and the folder for what it needs meanwhile.
    pub backups: Arc<Semaphore>,
    /// Held by the one that counts for `/metrics`, which may go on when its answer is given.
    pub counts: Arc<Semaphore>,
    pub data: PathBuf,
    /// Turns at adding up long ranges of days.
    pub ranges: Semaphore,
    /// Asked for when requests under way are to come to their end.
    pub stopping: Stop,
}

pub fn routes(reading: &Arc<Reading>, reads: Vec<Read>) -> Router {
    let routes = Router::new()
        .merge(health::routes(reading))
        .merge(views::routes(reading))
        .merge(stats::routes(reading))
        .merge(rows::routes(reading))
        .merge(notifications::routes(reading))
        .merge(events::routes(reading))
        .merge(sources::routes(reading))
        .merge(dead_letters::routes(reading))
        .merge(erasures::routes(reading))
        .merge(keys::routes(reading))
        .merge(backup::routes(reading));
    reads.into_iter().fold(routes, |routes, read| routes.merge(read::routes(reading, read)))
}

impl Reading {
    fn view(&self, name: &str) -> Result<&Running, Refusal> {
        self.views.get(name).ok_or_else(|| Refusal::NotFound(format!("there is no view `{name}`")))
    }

    /// Whoever is nobody does not learn which views there are.
    fn view_for(&self, headers: &HeaderMap, name: &str) -> Result<&Running, Refusal> {
        match self.keys.admit(headers, Scope::Read, None, false) {
            Err(Refusal::Unauthorized) => Err(Refusal::Unauthorized),
            _ => self.view(name),
        }
    }

    /// A view that has not begun has no table yet, and so no rows. One whose table is gone does not answer:
    /// what was in it is not said to be unknown. One that began between these two looks has its table by now.
    async fn rows_of<T: Default>(&self, view: &str, read: Result<T, StoreError>) -> Result<T, Refusal> {
        if let Err(StoreError::NoTable(table)) = &read {
            let begun = self.store.positions().await?.iter().any(|row| row.view == view);
            let nothing = format!("SELECT 1 FROM {} WHERE 1 = 0", quote(table));
            if !begun || self.store.rows(nothing, Vec::new()).await.is_ok() {
                return Ok(T::default());
            }
        }
        Ok(read?)
    }

    fn admin(&self, headers: &HeaderMap) -> Result<Arc<Key>, Refusal> {
        self.keys.admit(headers, Scope::Admin, None, false)
    }

    /// The same for a request that may have a body. It has to be JSON and to say so: a form of some page
    /// cannot.
    fn admin_with(&self, headers: &HeaderMap, body: &Body) -> Result<Arc<Key>, Refusal> {
        let key = self.admin(headers)?;
        if !body.is_end_stream() {
            body::expect_json(headers)?;
        }
        Ok(key)
    }

    /// Runs what reads the log, which blocks, when it is its turn. The work keeps its turn to its end: a
    /// client that has gone meanwhile does not make it shorter.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        turns: &Arc<Semaphore>,
        work: impl FnOnce(&Self) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let reading = Arc::clone(self);
        let turn = Arc::clone(turns).acquire_owned().await.map_err(|_| Refusal::Stopping)?;
        let work = move || {
            let _turn = turn;
            work(&reading)
        };
        tokio::task::spawn_blocking(work).await.unwrap_or(Err(Refusal::Stopping))
    }
}

/// The native API's two shapes of answer. An event is answered in its own text: a `Value` would round
/// its numbers.
fn answer(outcome: Result<impl Serialize, Refusal>) -> Response {
    match outcome {
        Ok(body) => (StatusCode::OK, axum::Json(body)).into_response(),
        Err(refusal) => refusal.as_problem(),
    }
}

//! What can be read of a running server, and what an administrator can ask of it: views, receipts, the
//! tail of a stream, dead letters, keys, health.

mod dead_letters;
mod events;
mod health;
mod http_error;
mod keys;
mod sources;
mod user_events;
mod views;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::runtime::Handle;

use crate::admit::{Key, Keys, Refusal, Scope};
use crate::event::{Fields, Progress};
use crate::eventlog::EventLog;
use crate::store::Store;
use crate::views::Running;

pub use user_events::UserEvents;

/// What the reading API needs.
pub struct Reading {
    pub keys: Keys,
    pub log: EventLog,
    pub store: Store,
    pub progress: Progress,
    pub streams: BTreeMap<String, Arc<Fields>>,
    pub views: BTreeMap<String, Running>,
    pub metrics: PrometheusHandle,
    pub runtime: Handle,
}

pub fn routes(reading: &Arc<Reading>, user_events: Option<UserEvents>) -> Router {
    let mut routes = Router::new()
        .merge(health::routes(reading))
        .merge(views::routes(reading))
        .merge(events::routes(reading))
        .merge(sources::routes(reading))
        .merge(dead_letters::routes(reading))
        .merge(keys::routes(reading));
    if let Some(user_events) = user_events {
        routes = routes.merge(user_events::routes(reading, user_events));
    }
    routes
}

impl Reading {
    fn view(&self, name: &str) -> Result<&Running, Refusal> {
        self.views.get(name).ok_or_else(|| Refusal::NotFound(format!("there is no view `{name}`")))
    }

    fn admin(&self, headers: &HeaderMap) -> Result<Arc<Key>, Refusal> {
        self.keys.admit(headers, Scope::Admin, None, false)
    }

    /// Runs what reads the log, which blocks.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let reading = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&reading)).await.unwrap_or(Err(Refusal::Stopping))
    }
}

/// An event's text as it was sent. Anything else than its very bytes would pass its amounts through a
/// float, and a dead letter mended from there would be another event.
fn as_sent(text: &str) -> Option<Box<serde_json::value::RawValue>> {
    serde_json::value::RawValue::from_string(text.to_owned()).ok()
}

/// The native API's two shapes of answer.
fn answer(outcome: Result<impl serde::Serialize, Refusal>) -> Response {
    match outcome {
        Ok(body) => (StatusCode::OK, axum::Json(body)).into_response(),
        Err(refusal) => refusal.as_problem(),
    }
}

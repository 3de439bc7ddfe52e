//! `/health` (the process runs), `/ready` (events are accepted; the state of each view), `/metrics` (Prometheus).

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use event::PositionState;
use serde::Serialize;
use serde_json::json;

use super::Api;
use crate::http::Reader;
use crate::store::{Store, StoreHealth, StoreState};

pub fn routes(api: &Arc<Api>) -> Router {
    Router::new()
        .route("/health", get(|| async { Json(json!({ "status": "OK" })) }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Arc::clone(api))
}

#[derive(Serialize)]
struct Readiness {
    status: &'static str,
    reason: Option<String>,
    log: LogState,
    database: ShownDatabase,
    views: BTreeMap<String, PositionState>,
}

/// The database of the views.
#[derive(Serialize)]
struct ShownDatabase {
    kind: &'static str,
    #[serde(flatten)]
    state: DatabaseState,
}

/// Whether the database can be used, and if not, why and since when.
#[derive(Serialize)]
pub struct DatabaseState {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// What a check in the background found to be damaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    damage: Option<String>,
}

impl DatabaseState {
    pub fn of(health: &StoreHealth, store: &Store) -> Self {
        let (state, reason, since) = match health.state() {
            StoreState::Up => ("up", None, None),
            StoreState::Down { since, reason } => ("down", Some(reason), Some(since.to_text())),
            StoreState::Wrong { reason } => ("wrong", Some(reason), None),
        };
        Self { state, reason, since, damage: store.damage() }
    }
}

#[derive(Serialize)]
struct LogState {
    begin: u64,
    end: u64,
    bytes: u64,
}

/// Responds with 200 while events are accepted, even if a view is paused: its events are in the log and will be
/// applied.
async fn ready(State(api): State<Arc<Api>>) -> (StatusCode, Json<Readiness>) {
    let end = api.log.end();
    let refusing = api.log.accepts().err();
    let (code, status) = if refusing.is_none() {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "refusing")
    };
    let readiness = Readiness {
        status,
        reason: refusing.map(|error| error.to_string()),
        log: LogState { begin: api.log.begin(), end, bytes: api.log.bytes() },
        database: ShownDatabase { kind: api.store.kind(), state: DatabaseState::of(&api.health, &api.store) },
        views: api.position_states(),
    };
    (code, Json(readiness))
}

async fn metrics(_: Reader, State(api): State<Arc<Api>>) -> impl IntoResponse {
    let end = api.log.end();
    metrics::gauge!("millrace_store_damaged").set(if api.store.damage().is_some() { 1.0 } else { 0.0 });
    metrics::gauge!("millrace_log_end").set(end as f64);
    metrics::gauge!("millrace_log_bytes").set(api.log.bytes() as f64);
    for (view, applied) in api.progress.all() {
        // Without an answer of the store since the start, the lag is not known.
        if let Some(position) = applied.position_if_known() {
            let lag = end.saturating_sub(position);
            metrics::gauge!("millrace_view_lag", "view" => view.clone()).set(lag as f64);
            let seconds = if lag > 0 { api.progress.lag_seconds(&view) } else { 0 };
            metrics::gauge!("millrace_view_lag_seconds", "view" => view.clone()).set(seconds as f64);
        }
        let paused = applied.is_paused();
        metrics::gauge!("millrace_view_paused", "view" => view).set(if paused { 1.0 } else { 0.0 });
    }
    // The answer does not wait for a store in trouble.
    if let Some(open) = api.open_dead_letters().await {
        metrics::gauge!("millrace_dead_letters_open").set(open as f64);
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], api.metrics.render())
}

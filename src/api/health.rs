//! `/health` (the process runs), `/ready` (events are accepted; the state of each view), `/metrics` (Prometheus).

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use event::{Applied, Stalled};
use serde::Serialize;
use serde_json::json;

use super::Api;
use crate::http::Reader;
use crate::store::StoreState;

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
    store: ShownStore,
    views: BTreeMap<String, ViewState>,
}

/// The database of the views. Its name is not shown, because this answer needs no key.
#[derive(Serialize)]
struct ShownStore {
    kind: &'static str,
    state: &'static str,
    reason: Option<String>,
    since: Option<String>,
}

impl ShownStore {
    fn of(api: &Api) -> Self {
        let (state, reason, since) = match api.health.state() {
            StoreState::Up => ("up", None, None),
            StoreState::Down { since, reason } => ("down", Some(reason), Some(since.to_text())),
            StoreState::Wrong { reason } => ("wrong", Some(reason), None),
        };
        Self { kind: api.store.kind(), state, reason, since }
    }
}

#[derive(Serialize)]
struct LogState {
    begin: u64,
    end: u64,
    bytes: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ViewState {
    state: &'static str,
    position: u64,
    /// In events.
    lag: u64,
    lag_seconds: u64,
    #[serde(flatten)]
    stalled: Option<Stalled>,
}

/// Responds with 200 while events are accepted, even if a view is paused: its events are in the log and will be
/// applied.
async fn ready(State(api): State<Arc<Api>>) -> (StatusCode, Json<Readiness>) {
    let end = api.log.end();
    let refusing = api.log.accepts().err();
    let state = |(name, Applied { position, stalled }): (String, Applied)| {
        let (lag, state) = (end.saturating_sub(position), state_of(stalled.as_ref()));
        let lag_seconds = if lag > 0 { api.progress.lag_seconds(&name) } else { 0 };
        (name, ViewState { state, position, lag, lag_seconds, stalled })
    };
    let (code, status) = if refusing.is_none() {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "refusing")
    };
    let readiness = Readiness {
        status,
        reason: refusing.map(|error| error.to_string()),
        log: LogState { begin: api.log.begin(), end, bytes: api.log.bytes() },
        store: ShownStore::of(&api),
        views: api.progress.all().into_iter().map(state).collect(),
    };
    (code, Json(readiness))
}

fn state_of(stalled: Option<&Stalled>) -> &'static str {
    match stalled {
        None => "running",
        Some(Stalled::Waiting(_)) => "waiting",
        Some(Stalled::Paused(_)) => "paused",
    }
}

async fn metrics(_: Reader, State(api): State<Arc<Api>>) -> impl IntoResponse {
    let end = api.log.end();
    metrics::gauge!("millrace_log_end").set(end as f64);
    metrics::gauge!("millrace_log_bytes").set(api.log.bytes() as f64);
    for (view, applied) in api.progress.all() {
        metrics::gauge!("millrace_view_lag", "view" => view.clone())
            .set(end.saturating_sub(applied.position) as f64);
        let seconds = if applied.position < end { api.progress.lag_seconds(&view) } else { 0 };
        metrics::gauge!("millrace_view_lag_seconds", "view" => view.clone()).set(seconds as f64);
        let paused = matches!(applied.stalled, Some(Stalled::Paused(_)));
        metrics::gauge!("millrace_view_paused", "view" => view).set(if paused { 1.0 } else { 0.0 });
    }
    // The answer does not wait for a store in trouble.
    if let Some(open) = api.open_dead_letters().await {
        metrics::gauge!("millrace_dead_letters_open").set(open as f64);
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], api.metrics.render())
}

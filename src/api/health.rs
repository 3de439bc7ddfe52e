//! `/health` (the process runs), `/ready` (events are accepted; the state of each view), `/metrics` (Prometheus).

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use event::limits::METRICS_STORE_DURATION_MAX;
use event::{Applied, Stalled};
use serde::Serialize;
use serde_json::json;

use super::Api;
use crate::http::Reader;

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
    views: BTreeMap<String, ViewState>,
}

#[derive(Serialize)]
struct LogState {
    begin: u64,
    end: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct ViewState {
    position: u64,
    lag: u64,
    #[serde(flatten)]
    stalled: Option<Stalled>,
}

/// Responds with 200 while events are accepted, even if a view is paused: its events are in the log and will be
/// applied.
async fn ready(State(api): State<Arc<Api>>) -> (StatusCode, Json<Readiness>) {
    let end = api.log.end();
    let refusing = api.log.accepts().err();
    let state = |(name, Applied { position, stalled }): (String, Applied)| {
        (name, ViewState { position, lag: end.saturating_sub(position), stalled })
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
        views: api.progress.all().into_iter().map(state).collect(),
    };
    (code, Json(readiness))
}

async fn metrics(_: Reader, State(api): State<Arc<Api>>) -> impl IntoResponse {
    let end = api.log.end();
    metrics::gauge!("millrace_store_damaged").set(if api.store.damage().is_some() { 1.0 } else { 0.0 });
    metrics::gauge!("millrace_log_end").set(end as f64);
    metrics::gauge!("millrace_log_bytes").set(api.log.bytes() as f64);
    for (view, applied) in api.progress.all() {
        metrics::gauge!("millrace_view_lag", "view" => view.clone())
            .set(end.saturating_sub(applied.position) as f64);
        let paused = matches!(applied.stalled, Some(Stalled::Paused(_)));
        metrics::gauge!("millrace_view_paused", "view" => view).set(if paused { 1.0 } else { 0.0 });
    }
    // The answer does not wait for a store in trouble. A read of a file cannot be cut short, so it keeps its permit.
    if let Ok(permit) = Arc::clone(&api.dead_letter_counts).try_acquire_owned() {
        let store = api.store.clone();
        let open = tokio::spawn(async move {
            let _permit = permit;
            store.open_dead_letters().await
        });
        if let Ok(Ok(Ok(open))) = tokio::time::timeout(METRICS_STORE_DURATION_MAX, open).await {
            metrics::gauge!("millrace_dead_letters_open").set(open as f64);
        }
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], api.metrics.render())
}

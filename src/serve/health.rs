//! `/health` (it runs), `/ready` (it takes events, and what stands still), `/metrics` (Prometheus).

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use event::Stalled;
use event::limits::METRICS_STORE_DURATION_MAX;
use serde_json::{Map, Value, json};

use super::Reading;
use crate::admit::Scope;

pub fn routes(reading: &Arc<Reading>) -> Router {
    Router::new()
        .route("/health", get(|| async { axum::Json(json!({ "status": "OK" })) }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Arc::clone(reading))
}

/// 200 while events are taken, even if a view stands still: they are not lost, only not applied yet.
async fn ready(State(reading): State<Arc<Reading>>) -> Response {
    let end = reading.log.end();
    let refused = reading.log.accepts().err();
    let mut views = Map::new();
    for (name, applied) in reading.progress.all() {
        let mut state = json!({ "position": applied.position, "lag": end.saturating_sub(applied.position) });
        match applied.stalled {
            Some(Stalled::Waiting(reason)) => state["waiting"] = json!(reason),
            Some(Stalled::Paused(reason)) => state["paused"] = json!(reason),
            None => {}
        }
        views.insert(name, state);
    }
    let status = if refused.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "status": if refused.is_none() { "ready" } else { "refusing" },
        "reason": refused.map(|error| error.to_string()),
        "log": { "begin": reading.log.begin(), "end": end, "bytes": reading.log.bytes() },
        "views": Value::Object(views),
    });
    (status, axum::Json(body)).into_response()
}

async fn metrics(State(reading): State<Arc<Reading>>, headers: HeaderMap) -> Response {
    if let Err(refusal) = reading.keys.admit(&headers, Scope::Read, None, false) {
        return refusal.as_problem();
    }
    let end = reading.log.end();
    metrics::gauge!("millrace_log_end").set(end as f64);
    metrics::gauge!("millrace_log_bytes").set(reading.log.bytes() as f64);
    for (view, applied) in reading.progress.all() {
        metrics::gauge!("millrace_view_lag", "view" => view.clone())
            .set(end.saturating_sub(applied.position) as f64);
        let paused = matches!(applied.stalled, Some(Stalled::Paused(_)));
        metrics::gauge!("millrace_view_paused", "view" => view).set(if paused { 1.0 } else { 0.0 });
    }
    // Whoever looks because the store stands still is not to wait for it; nothing cuts a reading of a file short.
    if let Ok(turn) = Arc::clone(&reading.counts).try_acquire_owned() {
        let store = reading.store.clone();
        let open = tokio::spawn(async move {
            let _turn = turn;
            store.open_letters().await
        });
        if let Ok(Ok(Ok(open))) = tokio::time::timeout(METRICS_STORE_DURATION_MAX, open).await {
            metrics::gauge!("millrace_dead_letters_open").set(open as f64);
        }
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], reading.metrics.render()).into_response()
}

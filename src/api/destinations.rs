//! `/v1/destinations`: list, pause, resume and drain.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use event::limits::WAITING_COUNTED_MAX;
use serde::{Deserialize, Serialize};

use super::Api;
use crate::delivery::LastOutcomes;
use crate::destinations::Destination;
use crate::http::{Administrator, ApiError, JsonBody, Reader};

pub fn routes(api: &Arc<Api>) -> Router {
    Router::new()
        .route("/v1/destinations", get(list))
        .route("/v1/destinations/{name}/pause", post(pause))
        .route("/v1/destinations/{name}/resume", post(resume))
        .route("/v1/destinations/{name}/drain", post(drain))
        .with_state(Arc::clone(api))
}

#[derive(Serialize)]
struct DestinationList {
    destinations: Vec<DestinationBody>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DestinationBody {
    name: String,
    kind: &'static str,
    /// Without what may be a secret.
    to: String,
    state: &'static str,
    /// Why it is paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Deliveries that wait; counting ends at a million.
    waiting: i64,
    last_sent_at: Option<String>,
    last_failed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    failures_in_a_row: u64,
}

async fn list(_: Reader, State(api): State<Arc<Api>>) -> Result<Json<DestinationList>, ApiError> {
    let mut destinations = Vec::new();
    for destination in api.delivery.destinations.values() {
        destinations.push(body(&api, destination).await?);
    }
    Ok(Json(DestinationList { destinations }))
}

async fn body(api: &Api, destination: &Destination) -> Result<DestinationBody, ApiError> {
    let Destination { name, .. } = destination;
    let reason = api.delivery.states.pause_of(name);
    let LastOutcomes { sent, failed, failures_in_a_row } = api.delivery.states.last_of(name);
    let (last_failed_at, last_error) = failed.map(|(at, error)| (at.to_text(), error)).unzip();
    Ok(DestinationBody {
        name: name.clone(),
        kind: destination.kind_name(),
        to: destination.shown(),
        state: if reason.is_some() { "paused" } else { "running" },
        reason,
        waiting: api.store.waiting(name, WAITING_COUNTED_MAX).await?,
        last_sent_at: sent.map(event::Millis::to_text),
        last_failed_at,
        last_error,
        failures_in_a_row,
    })
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PauseBody {
    reason: Option<String>,
}

async fn pause(
    _: Administrator,
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    JsonBody(PauseBody { reason }): JsonBody<PauseBody>,
) -> Result<Json<DestinationBody>, ApiError> {
    let destination = find(&api, &name)?;
    let reason = reason.filter(|reason| !reason.trim().is_empty());
    api.delivery.pause(&name, reason.as_deref().unwrap_or("paused by an administrator")).await?;
    body(&api, &destination).await.map(Json)
}

async fn resume(
    _: Administrator,
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
) -> Result<Json<DestinationBody>, ApiError> {
    let destination = find(&api, &name)?;
    api.delivery.resume(&name).await?;
    body(&api, &destination).await.map(Json)
}

#[derive(Serialize)]
struct Drained {
    /// Deliveries that waited for a later attempt and are due now.
    due: usize,
}

/// Makes everything due that waits for a retry.
async fn drain(
    _: Administrator,
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
) -> Result<Json<Drained>, ApiError> {
    find(&api, &name)?;
    if let Some(reason) = api.delivery.states.pause_of(&name) {
        return Err(ApiError::conflict(format!(
            "destination `{name}` is paused ({reason}); resume it first"
        )));
    }
    let due = api.delivery.make_due(&name).await?;
    Ok(Json(Drained { due }))
}

fn find(api: &Api, name: &str) -> Result<Arc<Destination>, ApiError> {
    let unknown = || ApiError::not_found(format!("there is no destination `{name}`"));
    api.delivery.destinations.get(name).cloned().ok_or_else(unknown)
}

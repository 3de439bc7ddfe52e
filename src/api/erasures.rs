//! `/v1/streams/{stream}/erasures` and `/v1/erasures`: erase the events of one person, and look up what was erased.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use event::EventId;
use event::limits::{ERASURE_POLL_INTERVAL, ERASURE_WAIT_DURATION_MAX};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::Api;
use crate::admission::Refusal;
use crate::http::{Administrator, ApiError, JsonBody, Query};
use crate::store::Erasure;
use crate::views::DataSubject;

pub fn routes(api: &Arc<Api>) -> Router {
    Router::new()
        .route("/v1/streams/{stream}/erasures", post(erase))
        .route("/v1/erasures", get(list))
        .route("/v1/erasures/{id}", get(show))
        .with_state(Arc::clone(api))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Erase {
    value: String,
    /// The stream's key if absent.
    field: Option<String>,
}

#[derive(Serialize)]
struct ErasureList {
    erasures: Vec<ErasureBody>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErasureBody {
    id: String,
    stream: String,
    field: String,
    value_hash: String,
    asked_by: String,
    events: u64,
    asked_at: String,
    done_at: Option<String>,
}

impl From<&Erasure> for ErasureBody {
    fn from(erasure: &Erasure) -> Self {
        Self {
            id: erasure.id.to_string(),
            stream: erasure.stream.clone(),
            field: erasure.field.clone(),
            value_hash: erasure.value_hash.clone(),
            asked_by: erasure.asked_by.clone(),
            events: erasure.events,
            asked_at: erasure.asked.to_text(),
            done_at: erasure.done.map(event::Millis::to_text),
        }
    }
}

/// Responds with 200 when the erasure is done, and with 202 while it continues in the background.
async fn erase(
    administrator: Administrator,
    State(api): State<Arc<Api>>,
    Path(stream): Path<String>,
    JsonBody(erase): JsonBody<Erase>,
) -> Result<(StatusCode, Json<ErasureBody>), ApiError> {
    api.fields(&stream)?;
    // Later events are not part of the erasure: it is not known yet which of them are repeats.
    let end = api.log.end();
    if !api.progress.dedup_reached(end, ERASURE_WAIT_DURATION_MAX).await {
        return Err(Refusal::dedup_behind().into());
    }
    let person = DataSubject { stream, field: erase.field, value: erase.value };
    let name = administrator.key.name.clone();
    let work = move |api: &Api| Ok(api.erasures.eraser.note(&person, &name, end)?);
    let erasure = api.blocking(&api.log_replays, work).await?;
    api.erasures.wake();
    let erasure = finished(&api, erasure).await?;
    let status = if erasure.done.is_some() { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(ErasureBody::from(&erasure))))
}

/// Waits until the erasure is done, for a bounded time, and returns its state then.
async fn finished(api: &Api, erasure: Erasure) -> Result<Erasure, ApiError> {
    let deadline = Instant::now() + ERASURE_WAIT_DURATION_MAX;
    let mut last = erasure;
    while last.done.is_none() && Instant::now() < deadline && !api.stopping.asked() {
        sleep(ERASURE_POLL_INTERVAL).await;
        last = api.store.erasure(last.id).await?.unwrap_or(last);
    }
    Ok(last)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ErasureQuery {
    /// Only erasures of this value.
    value: Option<String>,
}

async fn list(
    _: Administrator,
    State(api): State<Arc<Api>>,
    Query(query): Query<ErasureQuery>,
) -> Result<Json<ErasureList>, ApiError> {
    let hash = match query.value {
        Some(value) => {
            // The first use reads the key from a file.
            let work = move |api: &Api| Ok(Some(api.erasures.eraser.value_hash(&value)?));
            api.blocking(&api.log_reads, work).await?
        }
        None => None,
    };
    let erasures = api.store.erasures(hash).await?;
    Ok(Json(ErasureList { erasures: erasures.iter().map(ErasureBody::from).collect() }))
}

async fn show(
    _: Administrator,
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<Json<ErasureBody>, ApiError> {
    let unknown = || ApiError::not_found(format!("there is no erasure `{id}`"));
    let id: EventId = id.parse().map_err(|_| unknown())?;
    let erasure = api.store.erasure(id).await?.ok_or_else(unknown)?;
    Ok(Json(ErasureBody::from(&erasure)))
}

//! `/v1/dead-letters`: list, show, retry (edited or not) and drop.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::routing::{get, post};
use axum::{Json, Router};
use event::EventId;
use event::limits::{DEAD_LETTERS_READ_ROWS_MAX, EVENT_BYTES_MAX, LIST_ROWS_MAX, PAGE_BYTES_MAX};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Api;
use crate::admission::Refusal;
use crate::http::{Administrator, ApiError, Query, Reader, Share, body};
use crate::store::{DeadLetter, DeadLetterStatus, Store, shown_name};
use crate::views::{DeadLetterError, DeadLetterRetry, drop_dead_letter};

pub fn routes(api: &Arc<Api>) -> Router {
    Router::new()
        .route("/v1/dead-letters", get(list))
        .route("/v1/dead-letters/{id}", get(show))
        .route("/v1/dead-letters/{id}/retry", post(retry))
        .route("/v1/dead-letters/{id}/drop", post(drop_one))
        .with_state(Arc::clone(api))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeadLetterQuery {
    status: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeadLetterList {
    dead_letters: Vec<DeadLetterBody>,
    /// There are dead letters after the last one.
    more: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeadLetterBody {
    id: String,
    view: String,
    stream: String,
    position: u64,
    event_id: String,
    reason: String,
    status: &'static str,
    attempts: i64,
    created_at: String,
    updated_at: String,
    /// The event's own text, digit by digit: a person edits it and sends it again.
    event: Option<Box<RawValue>>,
}

impl From<&DeadLetter> for DeadLetterBody {
    fn from(dead_letter: &DeadLetter) -> Self {
        Self {
            id: dead_letter.id.to_string(),
            view: shown_name(&dead_letter.view).to_owned(),
            stream: dead_letter.stream.clone(),
            position: dead_letter.position,
            event_id: dead_letter.event_id.to_string(),
            reason: dead_letter.reason.clone(),
            status: dead_letter.status.as_str(),
            attempts: dead_letter.attempts,
            created_at: dead_letter.created.to_text(),
            updated_at: dead_letter.updated.to_text(),
            event: RawValue::from_string(dead_letter.event.clone()).ok(),
        }
    }
}

async fn list(
    _: Reader,
    State(api): State<Arc<Api>>,
    Query(query): Query<DeadLetterQuery>,
) -> Result<Json<DeadLetterList>, ApiError> {
    let known = |text: &String| {
        DeadLetterStatus::parse(text).ok_or_else(|| ApiError::Parameter {
            name: "status",
            reason: "must be one of open, retrying, applied, dropped".to_owned(),
        })
    };
    let status = query.status.as_ref().map(known).transpose()?;
    let after = query.after.as_deref().map(dead_letter_id).transpose()?;
    let limit = query.limit.unwrap_or(LIST_ROWS_MAX).clamp(1, LIST_ROWS_MAX);
    let _permit = api.log_reads.acquire().await.map_err(|_| Refusal::Stopping)?;
    page(&api.store, status, after, limit).await.map(Json)
}

/// Returns at least one dead letter if there is one, and no more than fit into the bytes of a page.
async fn page(
    store: &Store,
    status: Option<DeadLetterStatus>,
    mut after: Option<EventId>,
    limit: usize,
) -> Result<DeadLetterList, ApiError> {
    let (mut dead_letters, mut bytes) = (Vec::new(), 0);
    loop {
        let wanted = DEAD_LETTERS_READ_ROWS_MAX.min(limit - dead_letters.len());
        let read = store.dead_letters(status, after, wanted).await?;
        let last = read.len() < wanted;
        for dead_letter in &read {
            bytes += dead_letter.event.len();
            if bytes > PAGE_BYTES_MAX && !dead_letters.is_empty() {
                return Ok(DeadLetterList { dead_letters, more: true });
            }
            after = Some(dead_letter.id);
            dead_letters.push(DeadLetterBody::from(dead_letter));
        }
        if last || dead_letters.len() == limit {
            return Ok(DeadLetterList { dead_letters, more: !last });
        }
    }
}

async fn show(
    _: Reader,
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<Json<DeadLetterBody>, ApiError> {
    let id = dead_letter_id(&id)?;
    let dead_letter = api.store.dead_letter(id).await?.ok_or(DeadLetterError::Unknown(id))?;
    Ok(Json(DeadLetterBody::from(&dead_letter)))
}

/// Sends the event again: as it is with an empty body, or as the JSON object in the body.
async fn retry(
    _: Administrator,
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<DeadLetterBody>, ApiError> {
    let id = dead_letter_id(&id)?;
    let mut share = Share::default();
    let body = body::whole(&headers, body, EVENT_BYTES_MAX, &mut share).await?;
    let edited = std::str::from_utf8(&body)
        .map_err(|_| ApiError::BrokenBody("it is not valid UTF-8".to_owned()))?
        .trim();
    let edited = (!edited.is_empty()).then(|| edited.to_owned());
    let dead_letter = api.store.dead_letter(id).await?.ok_or(DeadLetterError::Unknown(id))?;
    let stream = &dead_letter.stream;
    let undeclared = || ApiError::conflict(format!("stream `{stream}` is not declared any more"));
    let fields = api.streams.get(stream).ok_or_else(undeclared)?;
    let Api { store, log, progress, views, .. } = &*api;
    let sent = DeadLetterRetry { store, log, progress, views, fields }.send_again(id, edited).await?;
    Ok(Json(DeadLetterBody::from(&sent)))
}

async fn drop_one(
    _: Administrator,
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<Json<DeadLetterBody>, ApiError> {
    let dropped = drop_dead_letter(&api.store, dead_letter_id(&id)?).await?;
    Ok(Json(DeadLetterBody::from(&dropped)))
}

fn dead_letter_id(text: &str) -> Result<EventId, ApiError> {
    let invalid = |_| ApiError::Parameter { name: "id", reason: "is not the id of a dead letter".to_owned() };
    text.parse().map_err(invalid)
}

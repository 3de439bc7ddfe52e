//! `/v1/dead-letters`: list, show, retry (edited or not) and drop. Events that views could not apply and notifications that
//! could not be sent are one list.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use event::limits::{
    DEAD_LETTERS_READ_ROWS_MAX, EVENT_BYTES_MAX, KEY_BODY_BYTES_MAX, LIST_ROWS_MAX, PAGE_BYTES_MAX,
};
use event::{EventId, json_in_plain_words};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Api;
use super::delivery_state::{DeliveryBody, raw};
use super::events::event_at;
use crate::admission::Refusal;
use crate::destinations::Content;
use crate::http::{Administrator, ApiError, Query, Reader, Share, body};
use crate::store::{DeadLetter, DeadLetterFilter, DeadLetterStatus, shown_name};
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
    view: Option<String>,
    destination: Option<String>,
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
    /// Set for a notification: its id, and the destination that did not take it.
    #[serde(skip_serializing_if = "Option::is_none")]
    notification: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<String>,
    /// Why a person dropped it.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    /// What is sent to the destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Box<RawValue>>,
    /// The event's own text, digit by digit: a person edits it and sends it again.
    event: Option<Box<RawValue>>,
}

/// One dead letter, with every attempt to send it if it is a notification.
#[derive(Serialize)]
struct WholeDeadLetter {
    #[serde(flatten)]
    body: DeadLetterBody,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deliveries: Vec<DeliveryBody>,
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
            notification: dead_letter.notification.clone(),
            destination: dead_letter.destination.clone(),
            note: dead_letter.note.clone(),
            content: raw(Content::shown(&dead_letter.event)).filter(|_| dead_letter.notification.is_some()),
            event: raw(dead_letter.event.clone()).filter(|_| dead_letter.notification.is_none()),
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
            reason: format!(
                "must be one of {}",
                DeadLetterStatus::ALL.map(DeadLetterStatus::as_str).join(", ")
            ),
        })
    };
    let status = query.status.as_ref().map(known).transpose()?;
    let after = query.after.as_deref().map(dead_letter_id).transpose()?;
    let limit = query.limit.unwrap_or(LIST_ROWS_MAX).clamp(1, LIST_ROWS_MAX);
    let _permit = api.log_reads.acquire().await.map_err(|_| Refusal::Stopping)?;
    let filter = DeadLetterFilter { status, view: query.view, destination: query.destination };
    page(&api, &filter, after, limit).await.map(Json)
}

/// Returns at least one dead letter if there is one, and no more than fit into the bytes of a page.
async fn page(
    api: &Api,
    filter: &DeadLetterFilter,
    mut after: Option<EventId>,
    limit: usize,
) -> Result<DeadLetterList, ApiError> {
    let (mut dead_letters, mut bytes) = (Vec::new(), 0);
    loop {
        let wanted = DEAD_LETTERS_READ_ROWS_MAX.min(limit - dead_letters.len());
        let read = api.store.dead_letters(filter, after, wanted).await?;
        let last = read.len() < wanted;
        for dead_letter in &read {
            bytes += dead_letter.event.len();
            if bytes > PAGE_BYTES_MAX && !dead_letters.is_empty() {
                return Ok(DeadLetterList { dead_letters, more: true });
            }
            after = Some(dead_letter.id);
            dead_letters.push(api.letter_body(dead_letter));
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
) -> Result<Json<WholeDeadLetter>, ApiError> {
    let id = dead_letter_id(&id)?;
    let dead_letter = api.store.dead_letter(id).await?.ok_or(DeadLetterError::Unknown(id))?;
    let mut body = api.letter_body(&dead_letter);
    let mut deliveries = Vec::new();
    if let Some(notification) = &dead_letter.notification {
        body.event = event_text(&api, &dead_letter).await?.and_then(raw);
        deliveries = DeliveryBody::of(&api, &dead_letter.view, notification).await?;
        deliveries.retain(|delivery| Some(delivery.destination()) == dead_letter.destination.as_deref());
    }
    Ok(Json(WholeDeadLetter { body, deliveries }))
}

/// Returns the event of a notification, if the log still has it.
async fn event_text(api: &Arc<Api>, dead_letter: &DeadLetter) -> Result<Option<String>, ApiError> {
    let position = dead_letter.position;
    if dead_letter.log != api.log.id() || position >= api.log.end() {
        return Ok(None);
    }
    let event = api.blocking(&api.log_reads, move |api: &Api| event_at(api, position)).await?;
    Ok(event.and_then(|event| event.event).map(|text| text.get().to_owned()))
}

impl Api {
    fn letter_body(&self, dead_letter: &DeadLetter) -> DeadLetterBody {
        let mut body = DeadLetterBody::from(dead_letter);
        if let Some(running) = self.views.get(&dead_letter.view).filter(|_| body.stream.is_empty()) {
            body.stream.clone_from(&running.view.stream);
        }
        body
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RetryQuery {
    /// Only show what would happen.
    #[serde(default)]
    dry_run: bool,
}

/// What a retry would do.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DryRun {
    /// The rows that the view would write, or the notification that would be sent.
    would: Value,
}

/// Sends the event or the notification again: as it is with an empty body, or edited, with the event in the body.
async fn retry(
    _: Administrator,
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    Query(RetryQuery { dry_run }): Query<RetryQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let id = dead_letter_id(&id)?;
    let mut share = Share::default();
    let body = body::whole(&headers, body, EVENT_BYTES_MAX, &mut share).await?;
    let edited = std::str::from_utf8(&body)
        .map_err(|_| ApiError::BrokenBody("it is not valid UTF-8".to_owned()))?
        .trim();
    let edited = (!edited.is_empty()).then(|| edited.to_owned());
    let dead_letter = api.store.dead_letter(id).await?.ok_or(DeadLetterError::Unknown(id))?;
    let stream = &api.letter_body(&dead_letter).stream;
    let undeclared = || ApiError::conflict(format!("stream `{stream}` is not declared any more"));
    let fields = api.streams.get(stream).ok_or_else(undeclared)?;
    let Api { store, log, progress, views, delivery, .. } = &*api;
    if dead_letter.notification.is_some() {
        match edited {
            None if dry_run => {
                let content = raw(Content::shown(&dead_letter.event));
                return Ok(Json(DryRun {
                    would: json!({ "send": content, "as": dead_letter.notification }),
                })
                .into_response());
            }
            None => delivery.send_again(&dead_letter).await?,
            Some(event) => {
                let edited = delivery.edit(&dead_letter, &event, views, fields)?;
                if dry_run {
                    let content = raw(Content::shown(&edited.content));
                    return Ok(
                        Json(DryRun { would: json!({ "send": content, "as": edited.id }) }).into_response()
                    );
                }
                delivery.send_edited(&dead_letter, edited).await?;
            }
        }
        let now = store.dead_letter(id).await?.ok_or(DeadLetterError::Unknown(id))?;
        return Ok(Json(api.letter_body(&now)).into_response());
    }
    if dry_run {
        let view =
            views.get(&dead_letter.view).ok_or_else(|| DeadLetterError::NoView(dead_letter.view.clone()))?;
        let text = edited.as_deref().unwrap_or(&dead_letter.event);
        fields.check(text, false).map_err(DeadLetterError::Refused)?;
        let would = view.view.preview(fields, text, dead_letter.event_id);
        let would = would.map_err(|reason| ApiError::Parameter { name: "event", reason })?;
        return Ok(Json(DryRun { would }).into_response());
    }
    let sent = DeadLetterRetry { store, log, progress, views, fields }.send_again(id, edited).await?;
    Ok(Json(DeadLetterBody::from(&sent)).into_response())
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct DropBody {
    reason: Option<String>,
}

async fn drop_one(
    _: Administrator,
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<DeadLetterBody>, ApiError> {
    let id = dead_letter_id(&id)?;
    let body = body::whole(&headers, body, KEY_BODY_BYTES_MAX, &mut Share::default()).await?;
    let DropBody { reason } = if body.trim_ascii().is_empty() {
        DropBody::default()
    } else {
        let invalid = |error: serde_json::Error| json_in_plain_words(&error.to_string());
        serde_json::from_slice(&body)
            .map_err(|error| ApiError::Parameter { name: "body", reason: invalid(error) })?
    };
    let dead_letter = api.store.dead_letter(id).await?.ok_or(DeadLetterError::Unknown(id))?;
    if dead_letter.notification.is_some() {
        api.delivery.drop_unsent(&dead_letter, reason.as_deref()).await?;
    } else {
        drop_dead_letter(&api.store, id).await?;
        if let Some(reason) = &reason {
            api.store.note_dead_letter(id, reason).await?;
        }
    }
    let dropped = api.store.dead_letter(id).await?.ok_or(DeadLetterError::Unknown(id))?;
    Ok(Json(api.letter_body(&dropped)))
}

fn dead_letter_id(text: &str) -> Result<EventId, ApiError> {
    let invalid = |_| ApiError::Parameter { name: "id", reason: "is not the id of a dead letter".to_owned() };
    text.parse().map_err(invalid)
}

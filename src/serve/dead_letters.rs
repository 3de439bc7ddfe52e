//! `/v1/dead-letters`: list, show, send again (mended or not), drop.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{get, post};
use event::EventId;
use event::limits::{EVENT_BYTES_MAX, LETTERS_READ_ROWS_MAX, LIST_ROWS_MAX, PAGE_BYTES_MAX};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Reading, answer};
use crate::admit::{Refusal, Scope, Share, body};
use crate::store::{Letter, LetterStatus, Store};
use crate::views::{LetterError, Sender, drop_letter};

pub fn routes(reading: &Arc<Reading>) -> Router {
    Router::new()
        .route("/v1/dead-letters", get(list))
        .route("/v1/dead-letters/{id}", get(show))
        .route("/v1/dead-letters/{id}/retry", post(send_again))
        .route("/v1/dead-letters/{id}/drop", post(give_up))
        .with_state(Arc::clone(reading))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    status: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

async fn list(
    State(reading): State<Arc<Reading>>,
    filter: Result<Query<Filter>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let listed = async {
        reading.keys.admit(&headers, Scope::Read, None, false)?;
        let Query(filter) = filter?;
        let known = |text: &String| {
            LetterStatus::parse(text).ok_or_else(|| Refusal::Parameter {
                name: "status",
                reason: "must be one of open, retrying, applied, dropped".to_owned(),
            })
        };
        let status = filter.status.as_ref().map(known).transpose()?;
        let after = filter.after.as_deref().map(letter_id).transpose()?;
        let limit = filter.limit.unwrap_or(LIST_ROWS_MAX).clamp(1, LIST_ROWS_MAX);
        let _turn = reading.reads.acquire().await.map_err(|_| Refusal::Stopping)?;
        page(&reading.store, status, after, limit).await
    };
    answer(listed.await)
}

/// At least one letter if there is one, then as many as are not too much together.
async fn page(
    store: &Store,
    status: Option<LetterStatus>,
    mut after: Option<EventId>,
    limit: usize,
) -> Result<Listed, Refusal> {
    let (mut dead_letters, mut bytes) = (Vec::new(), 0);
    loop {
        let wanted = LETTERS_READ_ROWS_MAX.min(limit - dead_letters.len());
        let letters = store.letters(status, after, wanted).await?;
        let last = letters.len() < wanted;
        for letter in &letters {
            bytes += letter.event.len();
            if bytes > PAGE_BYTES_MAX && !dead_letters.is_empty() {
                return Ok(Listed { dead_letters, more: true });
            }
            after = Some(letter.id);
            dead_letters.push(Shown::of(letter));
        }
        if last || dead_letters.len() == limit {
            return Ok(Listed { dead_letters, more: !last });
        }
    }
}

async fn show(State(reading): State<Arc<Reading>>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let found = async {
        reading.keys.admit(&headers, Scope::Read, None, false)?;
        let id = letter_id(&id)?;
        let letter = reading.store.letter(id).await?.ok_or(LetterError::Unknown(id))?;
        Ok(Shown::of(&letter))
    };
    answer(found.await)
}

/// An empty body sends the event as it is; a JSON object is what it is mended to.
async fn send_again(
    State(reading): State<Arc<Reading>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let sent = async {
        reading.admin_with(&headers, &body)?;
        let id = letter_id(&id)?;
        let mut share = Share::default();
        let body = body::whole(&headers, body, EVENT_BYTES_MAX, &mut share).await?;
        let mended = std::str::from_utf8(&body)
            .map_err(|_| Refusal::BrokenBody("it is not valid UTF-8".to_owned()))?
            .trim();
        let mended = (!mended.is_empty()).then(|| mended.to_owned());
        let letter = reading.store.letter(id).await?.ok_or(LetterError::Unknown(id))?;
        let unknown = || Refusal::Conflict(format!("stream `{}` is not declared any more", letter.stream));
        let fields = reading.streams.get(&letter.stream).ok_or_else(unknown)?;
        let Reading { store, log, progress, views, .. } = &*reading;
        let letter = Sender { store, log, progress, views, fields }.send_again(id, mended).await?;
        Ok(Shown::of(&letter))
    };
    answer(sent.await)
}

async fn give_up(
    State(reading): State<Arc<Reading>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let dropped = async move {
        reading.admin_with(&headers, &body)?;
        Ok(Shown::of(&drop_letter(&reading.store, letter_id(&id)?).await?))
    };
    answer(dropped.await)
}

fn letter_id(text: &str) -> Result<EventId, Refusal> {
    text.parse().map_err(|_| Refusal::Parameter { name: "id", reason: "is no dead letter's id".to_owned() })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    dead_letters: Vec<Shown>,
    /// Whether it is worth asking for those after the last one.
    more: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
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
    /// Its own text, digit by digit: it is what a person mends and sends again.
    event: Option<Box<RawValue>>,
}

impl Shown {
    fn of(letter: &Letter) -> Self {
        Self {
            id: letter.id.to_string(),
            view: letter.view.clone(),
            stream: letter.stream.clone(),
            position: letter.position,
            event_id: letter.event_id.to_string(),
            reason: letter.reason.clone(),
            status: letter.status.as_str(),
            attempts: letter.attempts,
            created_at: letter.created.to_text(),
            updated_at: letter.updated.to_text(),
            event: RawValue::from_string(letter.event.clone()).ok(),
        }
    }
}

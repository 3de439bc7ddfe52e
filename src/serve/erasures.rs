//! Erasing a person's events, and the record that it was done.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use event::EventId;
use event::limits::{ERASURE_POLL_INTERVAL, ERASURE_WAIT_DURATION_MAX, KEY_BODY_BYTES_MAX};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{Reading, answer};
use crate::admit::{Refusal, Scope, Share, body};
use crate::store::Erasure;
use crate::views::Person;

pub fn routes(reading: &Arc<Reading>) -> Router {
    Router::new()
        .route("/v1/streams/{stream}/erasures", post(erase))
        .route("/v1/erasures", get(list))
        .route("/v1/erasures/{id}", get(show))
        .with_state(Arc::clone(reading))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    value: String,
    /// The stream's key, unless it is said.
    field: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    id: String,
    stream: String,
    field: String,
    value_hash: String,
    asked_by: String,
    events: u64,
    asked_at: String,
    done_at: Option<String>,
}

impl Shown {
    fn of(erasure: &Erasure) -> Self {
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

/// 200 once it is done; 202 where it goes on, which it does whatever happens.
async fn erase(
    State(reading): State<Arc<Reading>>,
    Path(stream): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let asked = async {
        let key = reading.admin(&headers)?;
        body::expect_json(&headers)?;
        let mut share = Share::default();
        let bytes = body::whole(&headers, body, KEY_BODY_BYTES_MAX, &mut share).await?;
        let asked: Asked = serde_json::from_slice(&bytes)
            .map_err(|error| Refusal::Parameter { name: "body", reason: error.to_string() })?;
        if !reading.streams.contains_key(&stream) {
            return Err(Refusal::NotFound(format!("there is no stream `{stream}`")));
        }
        // What comes later has no part in this: nobody knows yet which of it are repeats that never count.
        let end = reading.log.end();
        if !reading.progress.gate_reached(end, ERASURE_WAIT_DURATION_MAX).await {
            return Err(Refusal::unsettled());
        }
        let person = Person { stream, field: asked.field, value: asked.value };
        let name = key.name.clone();
        let work = move |reading: &Reading| Ok(reading.erasures.eraser.note(&person, &name, end)?);
        let erasure = reading.blocking(&reading.replays, work).await?;
        reading.erasures.order();
        finished(&reading, erasure).await
    };
    match asked.await {
        Ok(erasure) => {
            let status = if erasure.done.is_some() { StatusCode::OK } else { StatusCode::ACCEPTED };
            (status, axum::Json(Shown::of(&erasure))).into_response()
        }
        Err(refusal) => refusal.as_problem(),
    }
}

/// The erasure as it is when it is done, or when patience is over.
async fn finished(reading: &Reading, erasure: Erasure) -> Result<Erasure, Refusal> {
    let deadline = Instant::now() + ERASURE_WAIT_DURATION_MAX;
    let mut last = erasure;
    while last.done.is_none() && Instant::now() < deadline && !reading.stopping.asked() {
        sleep(ERASURE_POLL_INTERVAL).await;
        last = reading.store.erasure(last.id).await?.unwrap_or(last);
    }
    Ok(last)
}

async fn list(State(reading): State<Arc<Reading>>, headers: HeaderMap) -> Response {
    let listed = async {
        reading.keys.admit(&headers, Scope::Admin, None, false)?;
        let erasures = reading.store.erasures().await?;
        Ok(json!({ "erasures": erasures.iter().map(Shown::of).collect::<Vec<_>>() }))
    };
    answer(listed.await)
}

async fn show(State(reading): State<Arc<Reading>>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let found = async {
        reading.keys.admit(&headers, Scope::Admin, None, false)?;
        let unknown = || Refusal::NotFound(format!("there is no erasure `{id}`"));
        let id: EventId = id.parse().map_err(|_| unknown())?;
        Ok(Shown::of(&reading.store.erasure(id).await?.ok_or_else(unknown)?))
    };
    answer(found.await)
}

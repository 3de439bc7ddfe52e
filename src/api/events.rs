//! Receipts ("where is event X now?") and the tail of a stream.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::routing::get;
use axum::{Json, Router};
use event::limits::{
    DEDUP_WAIT_DURATION_MAX, PAGE_BYTES_MAX, RECEIPT_DEDUP_DURATION_MAX, TAIL_EVENTS_MAX,
    TAIL_SCAN_BYTES_MAX, TAIL_WAIT_DURATION_MAX,
};
use event::{EventId, LogId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::Api;
use super::delivery_state::NotificationReceipt;
use super::event_state::{DedupDeadLetter, EventFacts, EventState, retry_taken_back_by};
use crate::admission::{Refusal, Scope};
use crate::http::key_check::path_parameter;
use crate::http::{ApiError, Query, StreamReader, credentials};
use crate::live::{EventBody, EventFilter, LeftOut, stream_page};

pub fn routes(api: &Arc<Api>) -> Router {
    Router::new()
        .route("/v1/events/{id}", get(receipt))
        .route("/v1/streams/{stream}/events", get(tail))
        .with_state(Arc::clone(api))
}

/// A reader of one event, which the key may read if it may read the event's stream.
struct EventReader {
    api: Arc<Api>,
    id: EventId,
    position: u64,
    event: EventBody,
}

impl FromRequestParts<Arc<Api>> for EventReader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, ApiError> {
        // The stream is known only once the event is read.
        api.keys.expect_known(credentials(&parts.headers))?;
        let text = path_parameter(parts, "id").await;
        let unknown = || ApiError::not_found(format!("there is no event `{text}`"));
        let invalid = |_| ApiError::Parameter { name: "id", reason: "is not an event id".to_owned() };
        let id: EventId = text.parse().map_err(invalid)?;
        let (log, position) = locate(api, id).await?.ok_or_else(unknown)?;
        if log != api.log.id() || position >= api.log.end() {
            return Err(unknown());
        }
        let work = move |api: &Api| event_at(api, position);
        let event = api.blocking(&api.log_reads, work).await?.ok_or_else(unknown)?;
        api.keys.authorize(credentials(&parts.headers), Scope::Read, Some(&event.stream), false)?;
        Ok(Self { api: Arc::clone(api), id, position, event })
    }
}

/// Returns the log and position of an event, by its id of either kind.
async fn locate(api: &Api, id: EventId) -> Result<Option<(LogId, u64)>, ApiError> {
    if !id.is_derived() {
        return Ok(id.position_in(api.log.id()).map(|position| (api.log.id(), position)));
    }
    api.progress.dedup_reached(api.log.end(), RECEIPT_DEDUP_DURATION_MAX).await;
    Ok(api.store.first_position(id).await?)
}

pub fn event_at(api: &Api, position: u64) -> Result<Option<EventBody>, ApiError> {
    if position < api.log.begin() {
        return Ok(None);
    }
    let mut reader = api.log.reader();
    let records = reader.read(position, 1)?;
    for record in records.iter() {
        let record = record?;
        let Some(header) = &record.header else { continue };
        for (at, entry) in record.entries().flatten() {
            if at == position {
                return Ok(Some(EventBody::of(api.log.id(), at, header, &entry)));
            }
        }
    }
    Ok(None)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReceiptBody {
    #[serde(flatten)]
    event: EventBody,
    #[serde(skip_serializing_if = "Option::is_none")]
    repeat_of: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    same_body: Option<bool>,
    /// The event reused an id for another body.
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letter: Option<DedupDeadLetter>,
    /// The correction that undoes this event.
    #[serde(skip_serializing_if = "Option::is_none")]
    taken_back_by: Option<String>,
    views: serde_json::Map<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notifications: Vec<NotificationReceipt>,
}

/// Returns the parts of an event on which its state depends.
fn facts(event: &EventBody) -> EventFacts<'_> {
    EventFacts {
        position: event.position,
        corrects: event.target,
        retry_of: event.retried,
        only_view: event.only_for.as_deref(),
        text: event.event.as_deref().map(RawValue::get),
    }
}

async fn receipt(reader: EventReader) -> Result<Json<ReceiptBody>, ApiError> {
    let EventReader { api, id, position, event } = reader;
    let log = api.log.id();
    // Read before the dead letters: a view that passes the event meanwhile is not said to have applied it.
    let positions = api.progress.all();
    failpoint::hit("receipt.positions_read");
    let state = EventState::of(&api, &facts(&event)).await?;
    let concerned = api.views.iter().filter(|(_, running)| running.view.stream == event.stream);
    let views = concerned.map(|(name, _)| {
        let at = positions.get(name).map_or(0, |applied| applied.position);
        (name.clone(), state.in_view(name, position, at))
    });
    let views = views.collect();
    let first_log = state.skipped.map_or(log, |skipped| skipped.first_log);
    Ok(Json(ReceiptBody {
        event: EventBody { id: id.to_string(), ..event },
        repeat_of: state.repeat_of.map(|at| EventId::at(first_log, at).to_string()),
        same_body: state.skipped.map(|skipped| skipped.same_body),
        dead_letter: state.dedup_dead_letter(),
        taken_back_by: state.taken_back_by.map(|by| EventId::at(log, by).to_string()),
        views,
        notifications: NotificationReceipt::of(&api, position).await?,
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TailQuery {
    /// The first position; by default, the last `limit` positions are read.
    from: Option<u64>,
    limit: Option<usize>,
    /// How many seconds to wait for the first event.
    wait: Option<u64>,
    /// Wait for the deduplicator, and show why no view counts an event.
    #[serde(default)]
    settled: bool,
    /// Only events with this value in `field`, or in the stream's key.
    value: Option<String>,
    field: Option<String>,
}

#[derive(Serialize)]
struct EventPage {
    events: Vec<EventBody>,
    next: u64,
}

async fn tail(
    StreamReader { stream }: StreamReader,
    State(api): State<Arc<Api>>,
    Query(tail): Query<TailQuery>,
) -> Result<Json<EventPage>, ApiError> {
    // A page without events would never advance.
    let limit = tail.limit.unwrap_or(100).clamp(1, TAIL_EVENTS_MAX);
    let fields = api.fields(&stream)?;
    let filter = EventFilter::new(&stream, fields, tail.field.as_deref(), tail.value.as_deref())?;
    // With a value, all of its events are of interest; without one, the last events of the stream.
    let last = || if filter.selects_all() { api.log.end().saturating_sub(limit as u64) } else { 0 };
    let from = tail.from.unwrap_or_else(last);
    let wait = TAIL_WAIT_DURATION_MAX.min(Duration::from_secs(tail.wait.unwrap_or(0)));
    let deadline = Instant::now() + wait;
    let page = follow(&api, filter, from.max(api.log.begin()), limit, deadline).await?;
    Ok(Json(if tail.settled { settled(&api, page).await? } else { page }))
}

/// Waits until the deduplicator has read all events of the page, and adds why no view counts some of them.
async fn settled(api: &Api, mut page: EventPage) -> Result<EventPage, ApiError> {
    let (Some(first), Some(last)) = (page.events.first(), page.events.last()) else { return Ok(page) };
    let (from, end, log) = (first.position, last.position + 1, api.log.id());
    if !api.progress.dedup_reached(end, DEDUP_WAIT_DURATION_MAX).await {
        return Err(Refusal::dedup_behind().into());
    }
    let skipped = api.store.skipped_positions(log, from, end).await?;
    let corrected = api.store.corrected_positions(log, from, end).await?;
    for event in &mut page.events {
        let is_in = |positions: &[u64]| positions.binary_search(&event.position).is_ok();
        event.left_out = match event.left_out {
            // An erased event has no text any more.
            _ if event.event.is_none() => Some(LeftOut::Erased),
            _ if is_in(&skipped) => Some(LeftOut::Repeat),
            _ if is_in(&corrected) => Some(LeftOut::Corrected),
            known => known,
        };
        if let (Some(id), Some(_), None) = (event.retried, &event.only_for, event.left_out)
            && let Some(original) = api.store.dead_letter(id).await?
            && retry_taken_back_by(&api.store, log, &original, facts(event).text).await?.is_some()
        {
            event.left_out = Some(LeftOut::Corrected);
        }
    }
    Ok(page)
}

/// Returns the next page of selected events. An empty page has only the position to continue from: the log's end
/// after `deadline`, or the position where this request has read its share of other events.
async fn follow(
    api: &Arc<Api>,
    filter: EventFilter,
    from: u64,
    limit: usize,
    deadline: Instant,
) -> Result<EventPage, ApiError> {
    let (mut at, mut scanned, end_at_request) = (from, 0, api.log.end());
    loop {
        let filter = filter.clone();
        let work = move |api: &Api| Ok(stream_page(&api.log, &filter, at, limit, PAGE_BYTES_MAX)?);
        let page = api.blocking(&api.log_reads, work).await?;
        scanned += page.scanned;
        let events = page.events.into_iter().map(|event| event.body).collect();
        let page = EventPage { events, next: page.next };
        // Events that existed at the start of the request are read even without time to wait. Later ones are not.
        let over = Instant::now() >= deadline && page.next >= end_at_request;
        if !page.events.is_empty() || over || scanned >= TAIL_SCAN_BYTES_MAX || api.stopping.asked() {
            return Ok(page);
        }
        let mut end = api.log.follow();
        let further = tokio::select! {
            // This branch is polled first, so that existing events are read.
            biased;
            further = end.wait_for(|end| *end > page.next) => further.is_ok(),
            () = tokio::time::sleep_until(deadline) => false,
            // A server that stops does not wait for events.
            () = api.stopping.wait() => false,
        };
        if !further {
            return Ok(page);
        }
        at = page.next;
    }
}

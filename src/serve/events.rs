//! Receipts ("where is event X now?") and the tail of a stream.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use event::limits::{
    PAGE_BYTES_MAX, RECEIPT_GATE_DURATION_MAX, SOURCE_GATE_DURATION_MAX, TAIL_EVENTS_MAX,
    TAIL_READ_BYTES_MAX, TAIL_SCAN_BYTES_MAX, TAIL_WAIT_DURATION_MAX,
};
use event::{EventId, Fields, LogId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Reading, answer};
use crate::admit::{Refusal, Scope};
use crate::eventlog::{Entry, Header};
use crate::store::Letter;
use crate::views::only_view;

pub fn routes(reading: &Arc<Reading>) -> Router {
    Router::new()
        .route("/v1/events/{id}", get(receipt))
        .route("/v1/streams/{stream}/events", get(tail))
        .with_state(Arc::clone(reading))
}

async fn receipt(
    State(reading): State<Arc<Reading>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    answer(find(&reading, &id, &headers).await)
}

async fn find(reading: &Arc<Reading>, text: &str, headers: &HeaderMap) -> Result<Receipt, Refusal> {
    // A key for some streams may read receipts of those; which one it is shows only below.
    if let Err(Refusal::Unauthorized) = reading.keys.admit(headers, Scope::Read, None, false) {
        return Err(Refusal::Unauthorized);
    }
    let unknown = || Refusal::NotFound(format!("there is no event `{text}`"));
    let id: EventId =
        text.parse().map_err(|_| Refusal::Parameter { name: "id", reason: "is no event id".to_owned() })?;
    let (log, position) = place(reading, id).await?.ok_or_else(unknown)?;
    if log != reading.log.id() || position >= reading.log.end() {
        return Err(unknown());
    }
    let work = move |reading: &Reading| event_at(reading, position);
    let event = reading.blocking(&reading.reads, work).await?.ok_or_else(unknown)?;
    reading.keys.admit(headers, Scope::Read, Some(&event.stream), false)?;
    with_states(reading, event, id, position).await
}

/// Where an event is, by an id of either kind.
async fn place(reading: &Reading, id: EventId) -> Result<Option<(LogId, u64)>, Refusal> {
    if !id.is_derived() {
        return Ok(id.position_in(reading.log.id()).map(|position| (reading.log.id(), position)));
    }
    reading.progress.gate_reached(reading.log.end(), RECEIPT_GATE_DURATION_MAX).await;
    Ok(reading.store.first_position(id).await?)
}

fn event_at(reading: &Reading, position: u64) -> Result<Option<Shown>, Refusal> {
    if position < reading.log.begin() {
        return Ok(None);
    }
    let mut reader = reading.log.reader();
    let records = reader.read(position, 1)?;
    for record in records.iter() {
        let record = record?;
        let Some(header) = &record.header else { continue };
        for (at, entry) in record.entries().flatten() {
            if at == position {
                return Ok(Some(Shown::of(reading.log.id(), at, header, &entry)));
            }
        }
    }
    Ok(None)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    id: String,
    stream: String,
    position: u64,
    received_at: String,
    origin: Option<String>,
    retry_of: Option<String>,
    /// The only view that this one, a dead letter sent again, is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    only_for: Option<String>,
    /// Why no view counts it; told of settled events.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<LeftOut>,
    /// The event that this one, a correction, takes back.
    #[serde(skip_serializing_if = "Option::is_none")]
    takes_back: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    erased: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    /// Its own text, digit by digit.
    event: Option<Box<RawValue>>,
    #[serde(skip)]
    target: Option<u64>,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
enum LeftOut {
    /// Sent before, or under an id that was used for another event.
    Repeat,
    TakenBack,
    /// It takes another event back, and is nothing by itself.
    Correction,
    Erased,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Receipt {
    #[serde(flatten)]
    event: Shown,
    #[serde(skip_serializing_if = "Option::is_none")]
    repeat_of: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    same_body: Option<bool>,
    /// The correction that takes this event back.
    #[serde(skip_serializing_if = "Option::is_none")]
    taken_back_by: Option<String>,
    views: serde_json::Map<String, Value>,
}

/// What is known of an event beside its views' positions.
struct Fate {
    letters: Vec<Letter>,
    /// No view sees it: a repeat, or a correction of what another one took back.
    left_out: bool,
    taken_back_by: Option<u64>,
}

impl Shown {
    fn of(log: LogId, position: u64, header: &Header<'_>, entry: &Entry<'_>) -> Self {
        let id = entry.client.map_or_else(|| EventId::at(log, position), |(id, _)| id);
        Self {
            id: id.to_string(),
            stream: header.stream.to_owned(),
            position,
            received_at: header.received.to_text(),
            origin: header.origin.filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string()),
            retry_of: header.retry.map(|retry| retry.letter.to_string()),
            only_for: header.retry.and_then(only_view).map(str::to_owned),
            left_out: entry.takes_back.map(|_| LeftOut::Correction),
            takes_back: entry.takes_back.map(|target| EventId::at(log, target).to_string()),
            erased: entry.erased(),
            traceparent: header.trace.map(str::to_owned),
            event: RawValue::from_string(entry.text.to_owned()).ok(),
            target: entry.takes_back,
        }
    }
}

async fn with_states(
    reading: &Reading,
    event: Shown,
    id: EventId,
    position: u64,
) -> Result<Receipt, Refusal> {
    let log = reading.log.id();
    let skipped = reading.store.skipped(log, position).await?;
    let outrun = match event.target {
        Some(target) => reading.store.taken_back_by(log, target).await?.is_some_and(|by| by != position),
        None => false,
    };
    let fate = Fate {
        letters: reading.store.letters_at(log, position).await?,
        left_out: skipped.is_some() || outrun,
        taken_back_by: reading.store.taken_back_by(log, position).await?,
    };
    let positions = reading.progress.all();
    let concerned = reading.views.iter().filter(|(_, running)| running.view.stream == event.stream);
    let views = concerned.map(|(name, _)| {
        let at = positions.get(name).map_or(0, |applied| applied.position);
        (name.clone(), fate.in_view(name, position, at))
    });
    let views = views.collect();
    Ok(Receipt {
        event: Shown { id: id.to_string(), ..event },
        repeat_of: skipped.map(|skipped| EventId::at(skipped.first_log, skipped.first_position).to_string()),
        same_body: skipped.map(|skipped| skipped.same_body),
        taken_back_by: fate.taken_back_by.map(|by| EventId::at(log, by).to_string()),
        views,
    })
}

impl Fate {
    /// How it stands with the event at `position` in a view that has come to `at`.
    fn in_view(&self, view: &str, position: u64, at: u64) -> Value {
        if let Some(letter) = self.letters.iter().find(|letter| letter.view == view) {
            return json!({ "state": "dead-letter", "letter": letter.id.to_string(), "status": letter.status.as_str(), "reason": letter.reason });
        }
        let state = match self.taken_back_by {
            _ if self.left_out => "left-out",
            Some(by) if at > by => "taken-back",
            _ if at > position => "applied",
            _ => "waiting",
        };
        json!({ "state": state })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tail {
    /// The first position wanted; without it, the last `limit` positions.
    from: Option<u64>,
    limit: Option<usize>,
    /// Seconds to wait for events if there are none yet.
    wait: Option<u64>,
    /// Whether to say of each event why no view counts it.
    #[serde(default)]
    settled: bool,
    /// Only events with this value in the stream's key, or in another field of it.
    value: Option<String>,
    field: Option<String>,
}

/// Which events of a stream are wanted.
#[derive(Clone)]
struct Wanted {
    stream: String,
    /// With this value in the field of this index.
    with: Option<(Arc<Fields>, usize, String)>,
}

impl Wanted {
    fn new(reading: &Reading, stream: String, tail: &Tail) -> Result<Self, Refusal> {
        let unknown = || Refusal::NotFound(format!("there is no stream `{stream}`"));
        let fields = reading.streams.get(&stream).ok_or_else(unknown)?;
        let no_field = || Refusal::Parameter {
            name: "field",
            reason: "is no field of text or integers that this stream declares".to_owned(),
        };
        let field = match &tail.field {
            Some(name) => fields.index_of(name).ok_or_else(no_field)?,
            None => fields.key(),
        };
        let with = match &tail.value {
            Some(_) if !fields.get(field).is_identity() => return Err(no_field()),
            Some(value) => Some((Arc::clone(fields), field, value.clone())),
            None if tail.field.is_some() => {
                return Err(Refusal::Parameter { name: "value", reason: "is missing".to_owned() });
            }
            None => None,
        };
        Ok(Self { stream, with })
    }

    fn takes(&self, text: &str) -> bool {
        self.with.as_ref().is_none_or(|(fields, field, value)| fields.names(text, *field, value))
    }
}

#[derive(Serialize)]
struct Page {
    events: Vec<Shown>,
    next: u64,
}

async fn tail(
    State(reading): State<Arc<Reading>>,
    Path(stream): Path<String>,
    query: Result<Query<Tail>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let read = async {
        reading.keys.admit(&headers, Scope::Read, Some(&stream), false)?;
        let Query(tail) = query?;
        // A page of none would never get on.
        let limit = tail.limit.unwrap_or(100).clamp(1, TAIL_EVENTS_MAX);
        let wanted = Wanted::new(&reading, stream, &tail)?;
        // All of one person's events are wanted, of a stream's the last.
        let from = tail.from.unwrap_or_else(|| match wanted.with {
            Some(_) => 0,
            None => reading.log.end().saturating_sub(limit as u64),
        });
        let patience = TAIL_WAIT_DURATION_MAX.min(Duration::from_secs(tail.wait.unwrap_or(0)));
        let deadline = Instant::now() + patience;
        let page = follow(&reading, wanted, from.max(reading.log.begin()), limit, deadline).await?;
        if tail.settled { settled(&reading, page).await } else { Ok(page) }
    };
    answer(read.await)
}

/// The page once the gate has come past it, with what it let no view see.
async fn settled(reading: &Reading, mut page: Page) -> Result<Page, Refusal> {
    let (Some(first), Some(last)) = (page.events.first(), page.events.last()) else { return Ok(page) };
    let (from, end, log) = (first.position, last.position + 1, reading.log.id());
    if !reading.progress.gate_reached(end, SOURCE_GATE_DURATION_MAX).await {
        return Err(Refusal::StoreUnavailable("what was sent before is not settled yet".to_owned()));
    }
    let skipped = reading.store.skipped_positions(log, from, end).await?;
    let taken_back = reading.store.taken_back_positions(log, from, end).await?;
    for event in &mut page.events {
        let is_in = |positions: &[u64]| positions.binary_search(&event.position).is_ok();
        event.left_out = match event.left_out {
            // An erased event has no text any more.
            _ if event.event.is_none() => Some(LeftOut::Erased),
            _ if is_in(&skipped) => Some(LeftOut::Repeat),
            _ if is_in(&taken_back) => Some(LeftOut::TakenBack),
            known => known,
        };
    }
    Ok(page)
}

/// The next events that are wanted. Without any there is the position to go on from: the log's end once
/// `deadline` is past, or where this request has read its part of other streams' events.
async fn follow(
    reading: &Arc<Reading>,
    wanted: Wanted,
    from: u64,
    limit: usize,
    deadline: Instant,
) -> Result<Page, Refusal> {
    let (mut at, mut scanned, end_when_asked) = (from, 0, reading.log.end());
    loop {
        let wanted = wanted.clone();
        let work = move |reading: &Reading| page(reading, &wanted, at, limit);
        let (page, bytes) = reading.blocking(&reading.reads, work).await?;
        scanned += bytes;
        // What was there when it was asked for is read even without any patience; what has come since is not
        // run after.
        let over = Instant::now() >= deadline && page.next >= end_when_asked;
        if !page.events.is_empty() || over || scanned >= TAIL_SCAN_BYTES_MAX || reading.stopping.asked() {
            return Ok(page);
        }
        let mut end = reading.log.follow();
        let further = tokio::select! {
            // First, so that what is there already is read.
            biased;
            further = end.wait_for(|end| *end > page.next) => further.is_ok(),
            () = tokio::time::sleep_until(deadline) => false,
            // A server that stops does not wait for events.
            () = reading.stopping.wait() => false,
        };
        if !further {
            return Ok(page);
        }
        at = page.next;
    }
}

/// Up to `limit` events from `from` on, and how many bytes of the log were looked at for them.
fn page(reading: &Reading, wanted: &Wanted, from: u64, limit: usize) -> Result<(Page, usize), Refusal> {
    let (mut page, mut shown, mut scanned) = (Page { events: Vec::new(), next: from }, 0, 0);
    let mut reader = reading.log.reader();
    // A little at a time: a page of ten events is not to cost megabytes.
    while scanned < PAGE_BYTES_MAX {
        let begun = page.next;
        for record in reader.read(begun, TAIL_READ_BYTES_MAX)?.iter() {
            let record = record?;
            let ours = record.header.as_ref().filter(|header| header.stream == wanted.stream);
            for (at, entry) in record.entries().flatten() {
                scanned += entry.text.len();
                let Some(header) = ours.filter(|_| at >= begun && wanted.takes(entry.text)) else { continue };
                shown += entry.text.len();
                if page.events.len() == limit || (shown > PAGE_BYTES_MAX && !page.events.is_empty()) {
                    return Ok((page, scanned));
                }
                page.events.push(Shown::of(reading.log.id(), at, header, &entry));
                page.next = at + 1;
            }
            page.next = record.end();
        }
        if page.next == begun {
            break;
        }
    }
    Ok((page, scanned))
}

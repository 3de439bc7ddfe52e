//! The native door: `POST /v1/streams/{stream}/events` takes one object, an array, lines of JSON, or
//! CloudEvents. An object or array is all or nothing.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use event::limits::{
    ARRAY_EVENTS_MAX, BODY_BYTES_MAX, EVENT_BYTES_MAX, QUICK_BODY_BYTES_MAX, REFUSALS_LISTED_MAX,
    WAIT_APPLIED_DURATION_MAX,
};
use event::{FieldError, Fields, Stalled};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::cloud_events::{CloudEvent, Mode};
use super::correction::{self, Corrections};
use super::naming::{Named, Namer, idempotency_key, misused};
use super::{Intake, ndjson};
use crate::admit::{Indexed, Key, Peer, Place, Refusal, Scope, Share, body};
use crate::eventlog::{Entry, RecordBuilder, Shape};

pub const LINES: &str = "application/x-ndjson";

pub fn routes(intake: Arc<Intake>) -> Router {
    // A GET of the same path is the reading API's.
    Router::new().route("/v1/streams/{stream}/events", post(receive)).with_state(intake)
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Keep the good lines of a chunk that has bad ones.
    #[serde(default)]
    pub partial: bool,
    pub wait: Option<Wait>,
    /// Check and store nothing.
    pub check: Option<Check>,
    /// The lines are those of an export of this stream.
    pub exported: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wait {
    Applied,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    Only,
}

/// One request, past its key.
pub struct Request<'a> {
    pub intake: &'a Intake,
    pub key: &'a Key,
    pub stream: &'a str,
    pub peer: Peer,
    pub headers: &'a HeaderMap,
    pub options: Options,
}

impl Request<'_> {
    pub fn namer(&self) -> Namer<'_> {
        Namer::new(self.stream, self.key)
    }
}

async fn receive(
    State(intake): State<Arc<Intake>>,
    Extension(peer): Extension<Peer>,
    Path(stream): Path<String>,
    options: Result<Query<Options>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let taken = async {
        let key = intake.keys.admit(&headers, Scope::Send, Some(&stream), false)?;
        let Query(options) = options?;
        let request =
            Request { intake: &intake, key: &key, stream: &stream, peer, headers: &headers, options };
        intake.fields(&stream)?;
        let kind = body::content_type(&headers);
        let cloud = Mode::of(&headers, kind)?;
        if cloud.is_none() && kind.eq_ignore_ascii_case(LINES) {
            ndjson::receive(&request, body).await
        } else if request.options.exported.is_some() {
            Err(Refusal::ContentType { expected: LINES })
        } else if cloud.is_some() || kind.eq_ignore_ascii_case(body::JSON) {
            json_body(&request, body, cloud).await
        } else {
            Err(Refusal::ContentType { expected: "application/json or application/x-ndjson" })
        }
    };
    taken.await.unwrap_or_else(|refusal: Refusal| refusal.as_problem())
}

async fn json_body(request: &Request<'_>, body: Body, cloud: Option<Mode>) -> Result<Response, Refusal> {
    let mut share = Share::keyed(request.peer);
    let bytes = body::whole(request.headers, body, BODY_BYTES_MAX, &mut share).await?;
    let text = body::utf8("the body", &bytes)?;
    let many = match cloud {
        None => text.trim_ascii_start().starts_with('['),
        Some(mode) => mode == Mode::Batch,
    };
    if !many && text.len() > EVENT_BYTES_MAX {
        return Err(Refusal::TooLarge { what: "an event", max: EVENT_BYTES_MAX });
    }
    let texts = if many { array(text)? } else { vec![text] };
    if cloud.is_some() {
        // Their texts are made anew.
        share.grow_to(2 * bytes.len())?;
    }
    let mut corrections = match cloud.is_none() && correction::possible(&bytes) {
        true => correction::find(request, texts.iter().copied()).await?,
        false => Corrections::default(),
    };
    let mut admitted = || {
        let offer = |text| match cloud {
            None => Offer::Event(text),
            Some(mode) => Offer::Cloud(mode.read(request.headers, text)),
        };
        let offers: Vec<Offer<'_>> = texts.iter().copied().map(offer).collect();
        admit(request, &offers, &mut corrections)
    };
    let admitted = match bytes.len() > QUICK_BODY_BYTES_MAX {
        true => tokio::task::block_in_place(admitted),
        false => admitted(),
    }?;
    let Some(record) = admitted.record else {
        return Ok(answer(StatusCode::OK, json!({ "accepted": 0, "eventIds": [] })));
    };
    request.intake.expect_unused(admitted.clients.iter().flatten().copied()).await?;
    if request.options.check == Some(Check::Only) {
        return Ok(answer(StatusCode::OK, json!({ "accepted": 0, "checked": texts.len() })));
    }
    let position = request.intake.log.append(&record).await?;
    drop(corrections);
    request.intake.accepted(request.stream, position, texts.len() as u64, request.headers);
    for (id, hash) in admitted.clients.iter().flatten() {
        request.intake.recent.note(*id, *hash);
    }
    let id = |(index, client): (usize, &Option<Named>)| match client {
        Some((id, _)) => id.to_string(),
        None => request.intake.id_at(position + index as u64).to_string(),
    };
    let ids: Vec<String> = admitted.clients.iter().enumerate().map(id).collect();
    let end = position + ids.len() as u64;
    let body = match many {
        true => json!({ "accepted": ids.len(), "position": position, "eventIds": ids }),
        false => json!({ "accepted": 1, "position": position, "eventId": ids[0] }),
    };
    Ok(finish(request, body, end).await)
}

/// One event of a request.
enum Offer<'a> {
    Event(&'a str),
    Cloud(Result<CloudEvent, FieldError>),
}

impl Offer<'_> {
    fn text(&self) -> &str {
        match self {
            Self::Event(text) => text,
            Self::Cloud(Ok(event)) => &event.text,
            Self::Cloud(Err(_)) => "",
        }
    }
}

struct Admitted {
    /// `None` where there was nothing to append.
    record: Option<RecordBuilder>,
    clients: Vec<Option<Named>>,
}

fn admit(
    request: &Request<'_>,
    offers: &[Offer<'_>],
    corrections: &mut Corrections,
) -> Result<Admitted, Refusal> {
    let fields = request.intake.fields(request.stream)?;
    let whole_key = idempotency_key(request.headers)?;
    let namer = request.namer();
    let (mut clients, mut errors, mut count) = (Vec::with_capacity(offers.len()), Vec::new(), 0);
    let mut taken_back = Vec::new();
    for (index, offer) in offers.iter().enumerate() {
        let text = offer.text();
        let named = match (offer, corrections.take(index)) {
            (Offer::Cloud(Err(error)), _) => Err(error.clone()),
            (Offer::Cloud(Ok(event)), _) => {
                check(fields, text, false).map(|_| Some(Cow::Borrowed(&*event.name)))
            }
            (Offer::Event(_), Some(correction)) => correction.map(|correction| {
                taken_back.push((index, correction.position));
                correction.client_id.map(Cow::Owned)
            }),
            (Offer::Event(_), None) => check(fields, text, true),
        };
        match named {
            Ok(name) => clients.push(match (name, whole_key) {
                (Some(name), _) => Some(namer.by_id(&name, text)),
                (None, Some(key)) => Some(namer.by_key(key, index, text)),
                (None, None) => None,
            }),
            Err(error) => {
                count += 1;
                if errors.len() < REFUSALS_LISTED_MAX {
                    errors.push(Indexed { place: Place::Index(index as u64), error });
                }
            }
        }
    }
    if count > 0 {
        return Err(match (offers.len(), errors.pop()) {
            (1, Some(only)) => Refusal::Invalid(only.error),
            (_, last) => {
                errors.extend(last);
                Refusal::InvalidMany { errors, count }
            }
        });
    }
    let mut within = HashMap::new();
    let twice = |(id, hash): &Named| within.insert(*id, *hash).is_some_and(|other| other != *hash);
    if clients.iter().flatten().any(twice) {
        return Err(misused());
    }
    if offers.is_empty() {
        return Ok(Admitted { record: None, clients });
    }
    let header = request.intake.header(request.stream, request.peer, request.headers);
    let ids = clients.iter().any(Option::is_some);
    let bytes: usize = offers.iter().map(|offer| offer.text().len() + 32).sum();
    let shape = Shape { ids, corrections: !taken_back.is_empty(), ..Shape::default() };
    let mut record = RecordBuilder::new(&header, shape, bytes);
    let mut taken_back = taken_back.into_iter().peekable();
    for (index, (client, offer)) in clients.iter().zip(offers).enumerate() {
        let takes_back = taken_back.next_if(|(at, _)| *at == index).map(|(_, position)| position);
        record.push(&Entry { client: *client, takes_back, text: offer.text(), ..Entry::default() });
    }
    Ok(Admitted { record: Some(record), clients })
}

/// The client's id of a sound event.
fn check<'a>(fields: &Fields, text: &'a str, ids: bool) -> Result<Option<Cow<'a, str>>, FieldError> {
    match text.len() > EVENT_BYTES_MAX {
        true => Err(FieldError {
            field: String::new(),
            reason: format!("is larger than {EVENT_BYTES_MAX} bytes"),
        }),
        false => fields.check(text, ids).map(|checked| checked.client_id),
    }
}

/// The texts of an array's items, as they were written.
fn array(text: &str) -> Result<Vec<&str>, Refusal> {
    let items: Items<'_> = serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        let reason = message.split(" at line ").next().unwrap_or_default();
        Refusal::Invalid(FieldError { field: String::new(), reason: format!("the array: {reason}") })
    })?;
    match items.0.len() > ARRAY_EVENTS_MAX {
        true => Err(Refusal::TooMany { max: ARRAY_EVENTS_MAX }),
        false => Ok(items.0),
    }
}

/// An array's items, no more of them than tell that they are too many: 16 MiB of `0,0,0` would
/// otherwise be worth 16 times as much.
struct Items<'a>(Vec<&'a str>);

impl<'de: 'a, 'a> Deserialize<'de> for Items<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct ItemsVisitor;
        impl<'de> serde::de::Visitor<'de> for ItemsVisitor {
            type Value = Items<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an array")
            }
            fn visit_seq<S: serde::de::SeqAccess<'de>>(self, mut items: S) -> Result<Items<'de>, S::Error> {
                let mut texts = Vec::new();
                while let Some(item) = items.next_element::<&'de RawValue>()? {
                    if texts.len() <= ARRAY_EVENTS_MAX {
                        texts.push(item.get());
                    }
                }
                Ok(Items(texts))
            }
        }
        reader.deserialize_seq(ItemsVisitor)
    }
}

/// The answer to a request whose events are durable below `end`, at once or, if it was asked for, once
/// the stream's views have them.
pub async fn finish(request: &Request<'_>, mut body: serde_json::Value, end: u64) -> Response {
    if request.options.wait.is_none() {
        return answer(StatusCode::OK, body);
    }
    let progress = &request.intake.progress;
    let patience: Duration = WAIT_APPLIED_DURATION_MAX;
    let applied = progress.reached(request.stream, end, patience).await;
    body["applied"] = json!(applied);
    if applied {
        return answer(StatusCode::OK, body);
    }
    let states = progress.of_stream(request.stream).into_iter().map(|(view, state)| {
        let stalled = match state.stalled {
            None => json!({ "position": state.position }),
            Some(Stalled::Waiting(reason)) => json!({ "position": state.position, "waiting": reason }),
            Some(Stalled::Paused(reason)) => json!({ "position": state.position, "paused": reason }),
        };
        (view, stalled)
    });
    body["views"] = states.collect();
    answer(StatusCode::ACCEPTED, body)
}

pub fn answer(status: StatusCode, body: serde_json::Value) -> Response {
    (status, axum::Json(body)).into_response()
}

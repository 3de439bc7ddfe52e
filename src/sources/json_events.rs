//! One object, an array of them, or CloudEvents: all events of a request are stored, or none.

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use event::limits::{ARRAY_EVENTS_MAX, BODY_BYTES_MAX, EVENT_BYTES_MAX};
use event::{FieldErrors, json_in_plain_words};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::cloud_events::{CloudEvent, CloudEventMode};
use super::native_request::{Request, answer, wait};
use crate::admission::{
    Appended, Checked, Context, Corrections, EventIndex, Offer, OfferName, Refusal, WrittenEvents,
    expect_distinct, run_sized,
};
use crate::http::{ApiError, Share, body, idempotency_key};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OneAccepted {
    accepted: usize,
    position: u64,
    event_id: String,
    /// The event is a repeat. Without it, the event may be one that was not recognised.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    repeat: bool,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct ManyAccepted {
    accepted: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    event_ids: Vec<String>,
    /// The indexes of the events that were recognised as repeats.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    repeats: Vec<usize>,
}

#[derive(Serialize)]
struct OnlyChecked {
    accepted: usize,
    checked: usize,
}

pub async fn receive(
    request: &Request<'_>,
    body: Body,
    cloud: Option<CloudEventMode>,
) -> Result<Response, ApiError> {
    let mut share = Share::keyed(request.peer);
    let bytes = body::whole(request.headers, body, BODY_BYTES_MAX, &mut share).await?;
    let text = body::utf8("the body", &bytes)?;
    let many = match cloud {
        None => text.trim_ascii_start().starts_with('['),
        Some(mode) => mode == CloudEventMode::Batch,
    };
    if !many && text.len() > EVENT_BYTES_MAX {
        return Err(Refusal::TooLarge { what: "an event", bytes_max: EVENT_BYTES_MAX }.into());
    }
    let texts = if many { array(text)? } else { vec![text] };
    let cloud_events: Option<Vec<_>> = match cloud {
        None => None,
        Some(mode) => {
            // The converted events need about as much memory as the body.
            share.grow_to(2 * bytes.len())?;
            Some(run_sized(bytes.len(), || {
                texts.iter().map(|text| mode.read(request.headers, text)).collect()
            }))
        }
    };
    let context = request.context(idempotency_key(request.headers)?);
    let mut corrections = if cloud.is_none() && Corrections::possible(&bytes) {
        request.admission().corrections(request.ids, texts.iter().copied()).await?
    } else {
        Corrections::default()
    };
    let checked = run_sized(bytes.len(), || match &cloud_events {
        None => check(request, &context, texts.iter().map(|text| Ok(own_id(text))), &mut corrections),
        Some(events) => check(request, &context, events.iter().map(named), &mut corrections),
    })?;
    if checked.is_empty() {
        return Ok(Json(ManyAccepted::default()).into_response());
    }
    run_sized(bytes.len(), || expect_distinct(checked.names()))?;
    request.admission().expect_unused(checked.names()).await?;
    if request.checks_only() {
        return Ok(Json(OnlyChecked { accepted: 0, checked: checked.len() }).into_response());
    }
    let appended = request.admission().append(&context, &checked, corrections).await?;
    Ok(accepted(request, many, &checked, appended).await)
}

/// Answers a request whose events are durable.
async fn accepted(request: &Request<'_>, many: bool, checked: &Checked<'_>, appended: Appended) -> Response {
    let Appended { position, ids, mut repeats } = appended;
    let accepted = ids.len();
    let mut written = WrittenEvents::new(checked.names().next().is_some());
    written.lists_repeats = true;
    written.add_corrections(checked.corrects());
    written.add(position..position + accepted as u64);
    let waited = wait(request, &written).await;
    if let Some(waited) = waited.as_ref().filter(|waited| waited.knows_repeats()) {
        // The deduplicator knows all of them, and has decided.
        repeats = waited.repeats.iter().map(|at| (at - position) as usize).collect();
    }
    let all_are_repeats = repeats.len() == accepted;
    let mut event_ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    match event_ids.pop() {
        Some(event_id) if !many => {
            let one = OneAccepted { accepted, position, event_id, repeat: all_are_repeats };
            answer(one, waited, all_are_repeats)
        }
        last => {
            event_ids.extend(last);
            let many = ManyAccepted { accepted, position: Some(position), event_ids, repeats };
            answer(many, waited, all_are_repeats)
        }
    }
}

fn own_id(text: &str) -> Offer<'_, 'static> {
    Offer { text, name: OfferName::OwnId }
}

fn named(event: &Result<CloudEvent, FieldErrors>) -> Result<Offer<'_, '_>, FieldErrors> {
    let event = event.as_ref().map_err(Clone::clone)?;
    Ok(Offer { text: &event.text, name: OfferName::Given { name: &event.name, id: &event.id } })
}

fn check<'a>(
    request: &Request<'_>,
    context: &Context<'_>,
    offers: impl ExactSizeIterator<Item = Result<Offer<'a, 'a>, FieldErrors>>,
    corrections: &mut Corrections,
) -> Result<Checked<'a>, ApiError> {
    let checker = request.admission().checker(context)?;
    let (mut checked, only) = (Checked::default(), offers.len() == 1);
    for (index, offer) in offers.enumerate() {
        match offer.and_then(|offer| checker.check(index, offer, corrections)) {
            Err(errors) if only => return Err(errors.into()),
            entry => checked.add(EventIndex::Index(index as u64), entry),
        }
    }
    Ok(checked.expect_all()?)
}

/// Returns the texts of an array's items, as they were written.
fn array(text: &str) -> Result<Vec<&str>, ApiError> {
    let items: Items<'_> = serde_json::from_str(text).map_err(|error| {
        FieldErrors::of_event(format!("the array: {}", json_in_plain_words(&error.to_string())))
    })?;
    if items.0.len() > ARRAY_EVENTS_MAX {
        return Err(Refusal::TooMany { events_max: ARRAY_EVENTS_MAX }.into());
    }
    Ok(items.0)
}

/// An array's items, and no more of them than needed to tell that they are too many: 16 MiB of `0,0,0` would take 16
/// times that memory.
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

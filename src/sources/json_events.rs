//! One object, an array of them, or CloudEvents: all events of a request are stored, or none.

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use event::FieldErrors;
use event::limits::{BODY_BYTES_MAX, EVENT_BYTES_MAX};
use serde::Serialize;

use super::cloud_events::{CloudEvent, CloudEventMode};
use super::event_texts::{array_items, check_all};
use super::native_request::{Request, answer, wait};
use crate::admission::{
    Appended, Checked, Corrections, EventIndex, Offer, OfferName, Refusal, WrittenEvents, run_sized,
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
    let texts = if many { array_items(text)? } else { vec![text] };
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
    let (admission, size) = (request.admission(), bytes.len());
    let checked = match &cloud_events {
        None => {
            let offers = texts.iter().map(|text| Ok(own_id(text)));
            check_all(admission, &context, size, offers, EventIndex::Index, &mut corrections).await?
        }
        Some(events) => {
            let offers = events.iter().map(named);
            check_all(admission, &context, size, offers, EventIndex::Index, &mut corrections).await?
        }
    };
    if checked.is_empty() {
        return Ok(Json(ManyAccepted::default()).into_response());
    }
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

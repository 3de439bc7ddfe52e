//! Contract 1: `POST /liveEvent`, one event a request, as the revenue services took it.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;

use super::Intake;
use crate::admit::{Peer, Refusal, Scope, body};
use crate::event::limits::EVENT_BYTES_MAX;
use crate::eventlog::{Entry, RecordBuilder};

/// Where this door leads.
#[derive(Clone)]
pub struct LiveEvent {
    pub intake: Arc<Intake>,
    pub stream: Arc<str>,
    /// Whether a request needs no key.
    pub open: bool,
}

pub fn routes(door: LiveEvent) -> Router {
    let wrong_method = || async { Refusal::MethodNotAllowed.in_key("error") };
    Router::new().route("/liveEvent", post(receive).fallback(wrong_method)).with_state(door)
}

/// Takes the request whole: an extractor for headers would copy them all.
async fn receive(
    State(door): State<LiveEvent>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    match admit(&door, peer, &head.headers, body).await {
        Ok(id) => {
            let answer = format!(r#"{{"message":"Event received","eventId":"{id}"}}"#);
            let json = HeaderValue::from_static(body::JSON);
            (StatusCode::OK, [(header::CONTENT_TYPE, json)], answer).into_response()
        }
        Err(refusal) => refusal.in_key("error"),
    }
}

async fn admit(door: &LiveEvent, peer: Peer, headers: &HeaderMap, body: Body) -> Result<String, Refusal> {
    let intake = &door.intake;
    intake.keys.admit(headers, Scope::Send, Some(&door.stream), door.open)?;
    body::expect_json(headers)?;
    let mut share = body::Share::default();
    let bytes = body::whole(headers, body, EVENT_BYTES_MAX, &mut share).await?;
    let text = body::utf8("the body", &bytes)?;
    // A body's `id` is data in this contract: a bare repeat is a new event.
    intake.fields(&door.stream)?.check(text, false)?;
    let mut record =
        RecordBuilder::new(&intake.header(&door.stream, peer, headers), false, false, text.len());
    record.push(&Entry { client: None, line: 0, text });
    let position = intake.log.append(&record).await?;
    intake.accepted(&door.stream, position, 1, headers);
    Ok(intake.id_at(position).to_string())
}

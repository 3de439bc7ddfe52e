//! The source kind `http`: one event a request in a declared contract. Path, answer and the words of refusals are
//! configuration; the services that it replaces differ in nothing else.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use event::EventId;
use event::limits::EVENT_BYTES_MAX;

use crate::admission::{Admission, Context, IdScope, Offer, OfferName, Scope};
use crate::http::{ApiError, Peer, Share, Wording, body, credentials, idempotency_key, traceparent};

pub struct HttpSource {
    pub admission: Arc<Admission>,
    pub stream: String,
    /// Requests need no key.
    pub open: bool,
    /// Clients may name their events. Otherwise a body's `id` is data, and a repeat is a new event.
    pub ids: bool,
    /// `text/plain` counts as JSON. Any web page can send it without a preflight.
    pub plain_text: bool,
    pub answer: Answer,
    pub wording: Arc<Wording>,
}

/// The declared answer, split where the event's id belongs.
pub struct Answer {
    status: StatusCode,
    before: Bytes,
    /// `None` if the answer does not contain the id.
    after: Option<String>,
}

impl Answer {
    pub fn new(status: u16, text: &str, id_placeholder: &str) -> Self {
        let (before, after) = match text.split_once(id_placeholder) {
            Some((before, after)) => (before, Some(after.to_owned())),
            None => (text, None),
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
        Self { status, before: Bytes::copy_from_slice(before.as_bytes()), after }
    }

    fn to(&self, id: EventId) -> Response {
        let body = match &self.after {
            None => Body::from(self.before.clone()),
            Some(after) => {
                let mut text = Vec::with_capacity(self.before.len() + EventId::TEXT_BYTES + after.len());
                text.extend_from_slice(&self.before);
                text.extend_from_slice(&id.to_text());
                text.extend_from_slice(after.as_bytes());
                Body::from(text)
            }
        };
        (self.status, [(header::CONTENT_TYPE, HeaderValue::from_static(body::JSON))], body).into_response()
    }
}

impl HttpSource {
    pub async fn answer(&self, peer: Peer, request: Request<impl body::AnyBody>) -> Response {
        if request.method() != Method::POST {
            let refused = ApiError::MethodNotAllowed.in_words(&self.wording);
            return ([(header::ALLOW, HeaderValue::from_static("POST"))], refused).into_response();
        }
        let (head, body) = request.into_parts();
        match self.admit(peer, &head.headers, body).await {
            Ok(id) => self.answer.to(id),
            Err(error) => error.in_words(&self.wording),
        }
    }

    async fn admit(
        &self,
        peer: Peer,
        headers: &HeaderMap,
        body: impl body::AnyBody,
    ) -> Result<EventId, ApiError> {
        let keys = &self.admission.keys;
        let key = keys.authorize(credentials(headers), Scope::Send, Some(&self.stream), self.open)?;
        self.expect_json(headers)?;
        let mut share = if keys.is_anonymous(&key) { Share::open(peer) } else { Share::keyed(peer) };
        let bytes = body::whole(headers, body, EVENT_BYTES_MAX, &mut share).await?;
        let context = Context {
            ids: IdScope { stream: &self.stream, scope: &key.name },
            address: Some(peer.0),
            trace: traceparent(headers),
            idempotency_key: if self.ids { idempotency_key(headers)? } else { None },
        };
        let name = if self.ids { OfferName::OwnId } else { OfferName::Unnamed };
        let offer = Offer { text: body::utf8("the body", &bytes)?, name };
        Ok(self.admission.admit_one(&context, offer).await?)
    }

    fn expect_json(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        if self.plain_text && body::content_type(headers).eq_ignore_ascii_case("text/plain") {
            return Ok(());
        }
        body::expect_json(headers)
    }
}

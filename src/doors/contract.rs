//! The door for one event a request in somebody else's contract: path, answer and words are declared,
//! and the services whose place it takes had no others.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use event::EventId;
use event::limits::EVENT_BYTES_MAX;

use super::Intake;
use super::naming::{Named, Namer, idempotency_key};
use crate::admit::{Key, Peer, Refusal, Scope, Share, Wording, body};
use crate::eventlog::{Entry, RecordBuilder, Shape};

/// One declared door.
pub struct Contract {
    pub intake: Arc<Intake>,
    pub stream: String,
    /// Whether a request needs no key.
    pub open: bool,
    /// Whether clients name their events. Elsewhere a body's `id` is data, and a bare repeat a new event.
    pub ids: bool,
    /// Whether `text/plain` is taken for JSON, which any page can send without asking first.
    pub plain_text: bool,
    pub answer: Answer,
    pub wording: Arc<Wording>,
}

/// A yes, cut at the place of the event's id.
pub struct Answer {
    status: StatusCode,
    before: Bytes,
    /// `None` where the id is not said.
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

impl Contract {
    /// One request at this door's path.
    pub async fn answer(&self, peer: Peer, request: Request<impl body::AnyBody>) -> Response {
        if request.method() != Method::POST {
            let refusal = Refusal::MethodNotAllowed.in_words(&self.wording);
            return ([(header::ALLOW, HeaderValue::from_static("POST"))], refusal).into_response();
        }
        let (head, body) = request.into_parts();
        match self.admit(peer, &head.headers, body).await {
            Ok(id) => self.answer.to(id),
            Err(refusal) => refusal.in_words(&self.wording),
        }
    }

    async fn admit(
        &self,
        peer: Peer,
        headers: &HeaderMap,
        body: impl body::AnyBody,
    ) -> Result<EventId, Refusal> {
        let intake = &self.intake;
        let key = intake.keys.admit(headers, Scope::Send, Some(&self.stream), self.open)?;
        self.expect_json(headers)?;
        let mut share = match intake.keys.is_anonymous(&key) {
            true => Share::open(peer),
            false => Share::keyed(peer),
        };
        let bytes = body::whole(headers, body, EVENT_BYTES_MAX, &mut share).await?;
        let text = body::utf8("the body", &bytes)?;
        let checked = intake.fields(&self.stream)?.check(text, self.ids)?;
        let named = match self.ids {
            true => self.named(&key, headers, checked.client_id.as_deref(), text).await?,
            false => None,
        };
        let shape = Shape { ids: named.is_some(), ..Shape::default() };
        let mut record = RecordBuilder::new(&intake.header(&self.stream, peer, headers), shape, text.len());
        record.push(&Entry { client: named, text, ..Entry::default() });
        let position = intake.log.append(&record).await?;
        intake.accepted(&self.stream, position, 1, headers);
        match named {
            Some((id, hash)) => {
                intake.recent.note(id, hash);
                Ok(id)
            }
            None => Ok(intake.id_at(position)),
        }
    }

    /// What the client calls this event, by its `id` or by the request's key.
    async fn named(
        &self,
        key: &Key,
        headers: &HeaderMap,
        client_id: Option<&str>,
        text: &str,
    ) -> Result<Option<Named>, Refusal> {
        let namer = Namer::new(&self.stream, key);
        let named = match (client_id, idempotency_key(headers)?) {
            (Some(id), _) => Some(namer.by_id(id, text)),
            (None, Some(key)) => Some(namer.by_key(key, 0, text)),
            (None, None) => None,
        };
        self.intake.expect_unused(named.into_iter()).await?;
        Ok(named)
    }

    fn expect_json(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        match body::expect_json(headers) {
            Err(Refusal::ContentType { .. })
                if self.plain_text && body::content_type(headers).eq_ignore_ascii_case("text/plain") =>
            {
                Ok(())
            }
            other => other,
        }
    }
}

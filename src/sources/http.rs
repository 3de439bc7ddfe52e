//! The source kind `http`: one event a request in a declared contract. Path, answer and the words of refusals are
//! configuration; the services that it replaces differ in nothing else.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use event::limits::EVENT_BYTES_MAX;
use event::{EventId, SettingErrors, WrittenDuration};
use serde::Deserialize;

use crate::admission::{Admission, Admitted, Context, IdScope, Offer, OfferName, Scope, ScopeName};
use crate::http::{
    Access, ApiError, ContractPath, ErrorTexts, Origins, Peer, Share, Wording, body, check_placeholders,
    credentials, idempotency_key, path_spellings, replayed, traceparent,
};

/// `[source.NAME]` with `kind = "http"`. The sources of presets are such sections, too.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSource {
    pub path: ContractPath,
    pub stream: String,
    #[serde(default)]
    pub access: Access,
    /// Confirms that an open source may be reached from other machines.
    #[serde(default)]
    pub public: bool,
    /// The body's `id`, or `Idempotency-Key`, names the event. Otherwise `id` is data, and a repeat is a new event.
    #[serde(default)]
    ids: bool,
    /// The scope of the ids. Without it, that of the sender's key.
    id_scope: Option<ScopeName>,
    /// How long ids are remembered. Without it, as long as `[dedup]` says.
    pub window: Option<WrittenDuration>,
    #[serde(default)]
    status: AnswerStatus,
    answer: Answer,
    /// The JSON key of the message in a refusal.
    #[serde(default = "error_key")]
    error_key: String,
    #[serde(default)]
    errors: ErrorTexts,
    /// The web pages that may send. They may send `text/plain`, which needs no preflight, as JSON.
    #[serde(default)]
    pub origins: Origins,
}

fn error_key() -> String {
    "error".to_owned()
}

/// The status of the answer to an accepted event.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "u16")]
struct AnswerStatus(StatusCode);

/// The JSON answer to an accepted event, split where the event's id belongs.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
struct Answer {
    before: Bytes,
    /// `None` if the answer does not contain the id.
    after: Option<String>,
}

const EVENT_ID: &str = "{eventId}";

impl Default for AnswerStatus {
    fn default() -> Self {
        Self(StatusCode::OK)
    }
}

impl TryFrom<u16> for AnswerStatus {
    type Error = String;

    fn try_from(status: u16) -> Result<Self, String> {
        match StatusCode::from_u16(status) {
            Ok(code) if code.is_success() => Ok(Self(code)),
            _ => Err(format!("the status of accepted events must be 200 to 299, not {status}")),
        }
    }
}

impl TryFrom<String> for Answer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        check_placeholders(&text, EVENT_ID)?;
        if text.matches(EVENT_ID).count() > 1 {
            return Err(format!("the answer contains `{EVENT_ID}` more than once"));
        }
        if serde_json::from_str::<serde::de::IgnoredAny>(&text.replace(EVENT_ID, "")).is_err() {
            return Err("the answer is not JSON".to_owned());
        }
        let (before, after) = match text.split_once(EVENT_ID) {
            Some((before, after)) => (before.to_owned(), Some(after.to_owned())),
            None => (text, None),
        };
        Ok(Self { before: before.into(), after })
    }
}

impl Answer {
    fn body(&self, id: EventId) -> Body {
        let Some(after) = &self.after else { return Body::from(self.before.clone()) };
        let mut text = Vec::with_capacity(self.before.len() + EventId::TEXT_BYTES + after.len());
        text.extend_from_slice(&self.before);
        text.extend_from_slice(&id.to_text());
        text.extend_from_slice(after.as_bytes());
        Body::from(text)
    }
}

impl HttpSource {
    /// Adds an error for each setting that contradicts another.
    pub fn check(&self, errors: &mut SettingErrors) {
        for (setting, is_set) in [("id_scope", self.id_scope.is_some()), ("window", self.window.is_some())] {
            if !self.ids && is_set {
                errors.add(&[setting], format!("has no `ids = true`, so `{setting}` would have no effect"));
            }
        }
        if self.access == Access::Open && self.id_scope.is_some() {
            let reason = "is open and has an `id_scope`: anybody could use up the ids of others; set `access = \"key\"`";
            errors.add(&["id_scope"], reason);
        }
    }

    /// Returns the path in all its spellings.
    pub fn paths(&self) -> Vec<String> {
        path_spellings(self.path.as_str())
    }

    pub fn wording(&self) -> Wording {
        Wording { key: self.error_key.clone(), errors: self.errors.clone() }
    }

    pub async fn answer(
        &self,
        admission: &Admission,
        peer: Peer,
        request: Request<impl body::AnyBody>,
    ) -> Response {
        if request.method() != Method::POST {
            let refused = ApiError::MethodNotAllowed.in_words(&self.wording());
            return ([(header::ALLOW, HeaderValue::from_static("POST"))], refused).into_response();
        }
        let (head, body) = request.into_parts();
        match self.admit(admission, peer, &head.headers, body).await {
            Ok(Admitted { id, repeat }) => {
                let json = [(header::CONTENT_TYPE, HeaderValue::from_static(body::JSON))];
                let answer = (self.status.0, json, self.answer.body(id)).into_response();
                if repeat { replayed(answer) } else { answer }
            }
            Err(error) => error.in_words(&self.wording()),
        }
    }

    async fn admit(
        &self,
        admission: &Admission,
        peer: Peer,
        headers: &HeaderMap,
        body: impl body::AnyBody,
    ) -> Result<Admitted, ApiError> {
        let (keys, open) = (&admission.keys, self.access == Access::Open);
        let key = keys.authorize(credentials(headers), Scope::Send, Some(&self.stream), open)?;
        self.expect_json(headers)?;
        let mut share = if keys.is_anonymous(&key) { Share::open(peer) } else { Share::keyed(peer) };
        let bytes = body::whole(headers, body, EVENT_BYTES_MAX, &mut share).await?;
        let scope = self.id_scope.as_ref().map_or_else(|| key.id_scope(), ScopeName::as_str);
        let context = Context {
            ids: IdScope { stream: &self.stream, scope },
            window: self.window.map(|window| window.0),
            address: Some(peer.0),
            trace: traceparent(headers),
            idempotency_key: if self.ids { idempotency_key(headers)? } else { None },
        };
        let name = if self.ids { OfferName::OwnId } else { OfferName::Unnamed };
        let offer = Offer { text: body::utf8("the body", &bytes)?, name };
        Ok(admission.admit_one(&context, offer).await?)
    }

    fn expect_json(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        if !self.origins.is_empty() && body::content_type(headers).eq_ignore_ascii_case("text/plain") {
            return Ok(());
        }
        body::expect_json(headers)
    }
}

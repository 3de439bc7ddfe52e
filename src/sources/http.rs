//! The source kind `http`: one event a request in a declared contract. Path, answer and the words of refusals are
//! configuration; the services that it replaces differ in nothing else.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use event::limits::EVENT_BYTES_MAX;
use event::{SettingErrors, WrittenDuration};
use serde::Deserialize;

use super::id_settings::IdSettings;
use super::template::AnswerTemplate;
use crate::admission::{Admission, Admitted, Context, IdScope, Offer, OfferName, Scope, ScopeName};
use crate::http::{
    Access, ApiError, ContractPath, ErrorTexts, Origins, Peer, Share, Wording, body, credentials,
    idempotency_key, replayed, sent_from, traceparent,
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
    answer: AnswerTemplate,
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

impl HttpSource {
    /// Adds an error for each setting that contradicts another.
    pub fn check(&self, errors: &mut SettingErrors) {
        let ids = IdSettings {
            access: self.access,
            ids: self.ids,
            has_id_scope: self.id_scope.is_some(),
            has_window: self.window.is_some(),
        };
        ids.check(errors);
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
                let answer =
                    (self.status.0, json, Body::from(self.answer.fill(id).into_owned())).into_response();
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
            sent_from: sent_from(peer, headers),
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

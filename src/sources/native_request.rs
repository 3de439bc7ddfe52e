//! One request to the native source: its options, and the answer once its events are durable.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use event::limits::WAIT_APPLIED_DURATION_MAX;
use event::{Applied, Stop};
use serde::{Deserialize, Serialize};

use crate::admission::{Admission, Context, IdScope, Keys};
use crate::http::{HasKeys, Peer, traceparent};

#[derive(Clone)]
pub struct NativeSource {
    pub admission: Arc<Admission>,
    /// Set when the server is to end.
    pub stopping: Stop,
}

impl HasKeys for NativeSource {
    fn keys(&self) -> &Keys {
        &self.admission.keys
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Keep the valid lines of a chunk that has invalid ones.
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

/// One authorized request.
pub struct Request<'a> {
    pub native: &'a NativeSource,
    pub ids: IdScope<'a>,
    pub peer: Peer,
    pub headers: &'a HeaderMap,
    pub options: Options,
}

impl<'a> Request<'a> {
    pub fn admission(&self) -> &'a Admission {
        &self.native.admission
    }

    pub fn context(&self, idempotency_key: Option<&'a str>) -> Context<'a> {
        let Self { ids, peer, headers, .. } = *self;
        Context { ids, window: None, address: Some(peer.0), trace: traceparent(headers), idempotency_key }
    }

    pub fn checks_only(&self) -> bool {
        self.options.check == Some(Check::Only)
    }
}

/// The answer to a request whose events are durable, with how far the views are if the sender waited for them.
#[derive(Serialize)]
struct Receipt<T> {
    #[serde(flatten)]
    accepted: T,
    #[serde(flatten)]
    waited: Option<Waited>,
}

#[derive(Serialize)]
struct Waited {
    applied: bool,
    /// The views of the stream, unless all have applied the events.
    #[serde(skip_serializing_if = "Option::is_none")]
    views: Option<BTreeMap<String, Applied>>,
}

/// Returns the answer to a request whose events are durable below `end`. With `wait=applied`, waits first until the
/// stream's views have applied them.
pub async fn finish(request: &Request<'_>, accepted: impl Serialize, end: u64) -> Response {
    if request.options.wait.is_none() {
        return Json(Receipt { accepted, waited: None }).into_response();
    }
    let (progress, stream) = (&request.admission().progress, request.ids.stream);
    if progress.reached(stream, end, WAIT_APPLIED_DURATION_MAX).await {
        let waited = Some(Waited { applied: true, views: None });
        return Json(Receipt { accepted, waited }).into_response();
    }
    let waited = Some(Waited { applied: false, views: Some(progress.of_stream(stream)) });
    (StatusCode::ACCEPTED, Json(Receipt { accepted, waited })).into_response()
}

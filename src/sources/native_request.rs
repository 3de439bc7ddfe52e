//! One request to the native source: its options, and the answer once its events are durable.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use event::limits::WAIT_APPLIED_DURATION_MAX;
use event::{PositionState, Stop};
use serde::{Deserialize, Serialize};

use crate::admission::{Admission, Context, DeadLetterSummary, IdScope, Keys, WrittenEvents};
use crate::http::{HasKeys, Peer, replayed, sent_from, traceparent};

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
        let (sent_from, trace) = (sent_from(peer, headers), traceparent(headers));
        Context { ids, window: None, sent_from, trace, idempotency_key }
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

/// What the views have done with the events of a request.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Waited {
    applied: bool,
    /// Dedup and the views of the stream, if it is not known whether every view applied the events.
    #[serde(skip_serializing_if = "Option::is_none")]
    views: Option<BTreeMap<String, PositionState>>,
    /// The events that a view could not apply.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dead_letters: Vec<DeadLetterBody>,
    /// There are more dead letters than these.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    more_dead_letters: bool,
    /// The positions of events that dedup recognised as repeats, if `WrittenEvents::lists_repeats` is set.
    #[serde(skip)]
    pub repeats: Vec<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeadLetterBody {
    id: String,
    view: String,
    position: u64,
    event_id: String,
    reason: String,
    status: &'static str,
}

/// With `wait=applied`, waits until dedup and the stream's views have processed the events. Returns `None` without it.
pub async fn wait(request: &Request<'_>, written: &WrittenEvents) -> Option<Waited> {
    request.options.wait?;
    // Boxed, because otherwise the future of every request would have room for it.
    Some(Box::pin(waited(request, written)).await)
}

async fn waited(request: &Request<'_>, written: &WrittenEvents) -> Waited {
    let (admission, stream, end) = (request.admission(), request.ids.stream, written.end());
    let progress = &admission.progress;
    let outcome = async {
        // A stream without views still has its ids checked.
        if progress.processed(stream, end).await {
            admission.not_applied(stream, written).await.ok()
        } else {
            None
        }
    };
    match tokio::time::timeout(WAIT_APPLIED_DURATION_MAX, outcome).await.ok().flatten() {
        Some(found) if !found.is_unknown() => Waited {
            applied: found.is_empty(),
            views: None,
            dead_letters: found.dead_letters.into_iter().map(DeadLetterBody::from).collect(),
            more_dead_letters: found.more,
            repeats: found.repeats,
        },
        // Also if the store does not answer, or if the request is too large to look up all of its events.
        _ => {
            let views = progress.states_of_stream(stream, admission.log.end());
            Waited { views: Some(views), ..Waited::default() }
        }
    }
}

impl Waited {
    /// Returns whether the deduplicator has decided about the events, and its decision was read.
    pub fn knows_repeats(&self) -> bool {
        self.views.is_none()
    }
}

/// Returns the answer to a request whose events are durable.
pub fn answer(accepted: impl Serialize, waited: Option<Waited>, all_are_repeats: bool) -> Response {
    let unknown = waited.as_ref().is_some_and(|waited| waited.views.is_some());
    let status = if unknown { StatusCode::ACCEPTED } else { StatusCode::OK };
    let answer = (status, Json(Receipt { accepted, waited })).into_response();
    if all_are_repeats { replayed(answer) } else { answer }
}

impl From<DeadLetterSummary> for DeadLetterBody {
    fn from(dead_letter: DeadLetterSummary) -> Self {
        Self {
            id: dead_letter.id.to_string(),
            view: dead_letter.view,
            position: dead_letter.position,
            event_id: dead_letter.event_id.to_string(),
            reason: dead_letter.reason,
            status: dead_letter.status.as_str(),
        }
    }
}

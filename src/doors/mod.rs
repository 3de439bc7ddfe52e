//! Doors: ways in, one file a contract or transport. A door authenticates, has every event checked,
//! appends to the log, and says yes only when the log says that it is durable.

mod cloud_events;
pub mod contract;
mod correction;
mod exported;
mod naming;
pub mod native;
mod ndjson;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::HeaderMap;
use event::limits::STOP_LINES_DURATION_MAX;
use event::{EventId, Fields, Millis, Progress, Stop};

use crate::admit::{Keys, Peer, RecentIds, Refusal, Targets, traceparent};
use crate::eventlog::{EventLog, Header};

/// What every door needs.
pub struct Intake {
    pub keys: Keys,
    pub log: EventLog,
    pub streams: BTreeMap<String, Inlet>,
    pub progress: Progress,
    pub recent: RecentIds,
    pub targets: Targets,
    /// Asked for when the server is to end.
    pub stopping: Stop,
}

/// One stream as a door sees it.
pub struct Inlet {
    pub fields: Arc<Fields>,
    accepted: metrics::Counter,
}

impl Inlet {
    pub fn new(name: &str, fields: &Arc<Fields>) -> Self {
        let accepted = metrics::counter!("millrace_accepted_total", "stream" => name.to_owned());
        Self { fields: Arc::clone(fields), accepted }
    }
}

impl Intake {
    /// Ends when a request that is still coming in has to be answered, so that its client is not cut off.
    async fn last_moment(&self) {
        self.stopping.wait().await;
        tokio::time::sleep(STOP_LINES_DURATION_MAX).await;
    }

    fn inlet(&self, stream: &str) -> Result<&Inlet, Refusal> {
        self.streams.get(stream).ok_or_else(|| Refusal::NotFound(format!("there is no stream `{stream}`")))
    }

    /// The fields of a declared stream.
    fn fields(&self, stream: &str) -> Result<&Fields, Refusal> {
        self.inlet(stream).map(|inlet| inlet.fields.as_ref())
    }

    /// Counts what was made durable, from `position` on.
    fn accepted(&self, stream: &str, position: u64, events: u64, headers: &HeaderMap) {
        self.count(stream, events);
        if tracing::enabled!(tracing::Level::DEBUG) {
            let traceparent = traceparent(headers);
            tracing::debug!(stream, position, events, traceparent, "accepted");
        }
    }

    fn count(&self, stream: &str, events: u64) {
        if let Some(inlet) = self.streams.get(stream) {
            inlet.accepted.increment(events);
        }
    }

    fn header<'a>(&self, stream: &'a str, peer: Peer, headers: &'a HeaderMap) -> Header<'a> {
        let trace = traceparent(headers);
        Header { stream, received: Millis::now(), origin: Some(peer.0), chunk: None, retry: None, trace }
    }

    fn id_at(&self, position: u64) -> EventId {
        EventId::at(self.log.id(), position)
    }
}

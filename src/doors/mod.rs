//! Doors: ways in, one file a contract or transport. A door authenticates, has every event checked,
//! appends to the log, and says yes only when the log says that it is durable.

mod cloud_events;
pub mod contract;
mod correction;
mod naming;
pub mod native;
mod ndjson;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use axum::http::HeaderMap;

use crate::admit::{Keys, Peer, RecentIds, Refusal, Targets, origin};
use crate::event::{EventId, Fields, Millis, Progress};
use crate::eventlog::{EventLog, Header};

/// What every door needs.
pub struct Intake {
    pub keys: Keys,
    pub log: EventLog,
    pub streams: BTreeMap<String, Inlet>,
    pub progress: Progress,
    pub recent: RecentIds,
    pub targets: Targets,
    pub trusted_proxies: Vec<IpAddr>,
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
    fn inlet(&self, stream: &str) -> Result<&Inlet, Refusal> {
        self.streams.get(stream).ok_or_else(|| Refusal::NotFound(format!("there is no stream `{stream}`")))
    }

    /// The fields of a declared stream.
    fn fields(&self, stream: &str) -> Result<&Fields, Refusal> {
        self.inlet(stream).map(|inlet| inlet.fields.as_ref())
    }

    /// Counts what was made durable.
    fn count(&self, stream: &str, events: u64) {
        if let Some(inlet) = self.streams.get(stream) {
            inlet.accepted.increment(events);
        }
    }

    fn header<'a>(&self, stream: &'a str, peer: Peer, headers: &HeaderMap) -> Header<'a> {
        let origin = origin(peer.0, headers, &self.trusted_proxies);
        Header { stream, received: Millis::now(), origin: Some(origin), chunk: None, retry: None }
    }

    fn id_at(&self, position: u64) -> EventId {
        EventId::at(self.log.id(), position)
    }
}

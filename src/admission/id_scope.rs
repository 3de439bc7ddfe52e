//! Names that clients give to their events: an id for one event, or one key for all events of a request. The same
//! name means the same event; the same name with another body is refused.

use event::{BodyHash, EventId, UploadId};

/// The id that an event has because its client named it, and the hash that tells whether it is the same event.
pub type EventName = (EventId, BodyHash);

/// The scope of a client's ids: they are unique in one stream, among the senders of one scope. The scope is the name
/// of the key, so that a new key of the same name continues where the old one stopped.
#[derive(Clone, Copy)]
pub struct IdScope<'a> {
    pub stream: &'a str,
    pub scope: &'a str,
}

impl IdScope<'_> {
    pub fn by_id(self, client_id: &str, text: &str) -> EventName {
        (self.event(client_id), BodyHash::of(text.as_bytes()))
    }

    /// Names the event at `index` of a request with an idempotency key.
    pub fn by_key(self, idempotency_key: &str, index: usize, text: &str) -> EventName {
        (self.event_by_key(idempotency_key, index), BodyHash::of(text.as_bytes()))
    }

    pub fn event(self, client_id: &str) -> EventId {
        EventId::derived(self.stream, self.scope, client_id)
    }

    pub fn event_by_key(self, idempotency_key: &str, index: usize) -> EventId {
        EventId::derived_by_key(self.stream, self.scope, idempotency_key, index)
    }

    /// Identifies an upload that `send` named. The prefix is part of ids in users' databases.
    pub fn upload(self, name: &str) -> UploadId {
        UploadId::derived(self.stream, self.scope, &format!("source:{name}"))
    }

    /// Identifies the lines of a request with an idempotency key.
    pub fn upload_by_key(self, idempotency_key: &str) -> UploadId {
        UploadId::derived_by_key(self.stream, self.scope, idempotency_key)
    }
}

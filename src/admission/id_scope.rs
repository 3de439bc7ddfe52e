//! Names that clients give to their events: an id for one event, or one key for all events of a request. The same
//! name means the same event; the same name with another body is refused.

use event::{BodyHash, EventId, UploadId};
use serde::Deserialize;

/// The id that an event has because its client named it, and the hash that tells whether it is the same event.
pub type EventName = (EventId, BodyHash);

/// The characters of a name of a key or scope.
const NAME_CHARS_MAX: usize = 100;

/// The name of a scope of ids, or of a key: without a scope of its own, a key's name is its scope.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ScopeName(String);

impl TryFrom<String> for ScopeName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let fits = (1..=NAME_CHARS_MAX).contains(&name.chars().count());
        if fits && !name.chars().any(char::is_control) {
            Ok(Self(name))
        } else {
            Err(format!("a name must have 1 to {NAME_CHARS_MAX} plain characters"))
        }
    }
}

impl From<ScopeName> for String {
    fn from(name: ScopeName) -> Self {
        name.0
    }
}

impl ScopeName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The scope of a client's ids: they are unique in one stream, among the senders of one scope.
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

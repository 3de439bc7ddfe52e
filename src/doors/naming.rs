//! Names that clients give to their events: an `id` in the body, or `Idempotency-Key` for all of a
//! request. The same name is the same event; under another body it is a misuse.

use axum::http::HeaderMap;
use event::limits::CLIENT_ID_CHARS_MAX;
use event::{BodyHash, EventId};

use super::Intake;
use crate::admit::{Key, Refusal};

/// The id that an event has because its client named it, and what tells whether it is the same event.
pub type Named = (EventId, BodyHash);

/// Whose names they are: a name means something for one stream and the keys of one name.
#[derive(Clone, Copy)]
pub struct Namer<'a> {
    stream: &'a str,
    owner: &'a str,
}

impl<'a> Namer<'a> {
    pub fn new(stream: &'a str, key: &'a Key) -> Self {
        Self { stream, owner: &key.name }
    }

    pub fn by_id(self, client_id: &str, text: &str) -> Named {
        (EventId::derived(self.stream, self.owner, client_id), BodyHash::of(text.as_bytes()))
    }

    /// The event at `index` of a request under `Idempotency-Key`.
    pub fn by_key(self, idempotency_key: &str, index: usize, text: &str) -> Named {
        let id = EventId::derived_by_key(self.stream, self.owner, idempotency_key, index);
        (id, BodyHash::of(text.as_bytes()))
    }
}

/// `Idempotency-Key`: stands for all of a request.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let wrong = |reason: &str| Refusal::Parameter { name: "Idempotency-Key", reason: reason.to_owned() };
    let mut lines = headers.get_all("idempotency-key").iter();
    let first = lines.next();
    if lines.any(|line| Some(line) != first) {
        return Err(wrong("is there more than once"));
    }
    match first.map(|value| value.to_str()) {
        None => Ok(None),
        Some(Ok("")) => Err(wrong("is empty")),
        Some(Ok(key)) if key.len() > CLIENT_ID_CHARS_MAX => Err(wrong("is longer than 200 characters")),
        Some(Ok(key)) => Ok(Some(key)),
        Some(Err(_)) => Err(wrong("is not plain text")),
    }
}

pub fn misused() -> Refusal {
    Refusal::Conflict("this id was used for another event".to_owned())
}

impl Intake {
    /// Refuses what goes by the name of another event, as far as the door still knows.
    pub async fn expect_unused(&self, names: impl Iterator<Item = Named>) -> Result<(), Refusal> {
        match self.recent.conflict(names).await {
            true => Err(misused()),
            false => Ok(()),
        }
    }
}

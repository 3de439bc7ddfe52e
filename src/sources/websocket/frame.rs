//! One frame: the events in it, and the answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use event::limits::{
    ARRAY_EVENTS_MAX, FRAME_ANSWER_BYTES_MAX, FRAME_ANSWER_FACTOR, FRAME_ANSWERS_WAITING_BYTES_MAX,
    FRAME_FAULTS_LISTED_MAX, SOCKET_MESSAGE_BYTES_UNCOUNTED_MAX,
};
use event::{FieldErrors, SentFrom, json_in_plain_words};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::Mutex;

use crate::admission::{Appended, Context, Corrections, EventIndex, IdScope, Key, Offer, OfferName, Refusal};
use crate::http::{ApiError, Handshake, Share};
use crate::sources::SocketServices;
use crate::sources::event_texts::{array_items, check_all};

/// Where the events of a socket belong, and how they are named.
pub struct Intake {
    pub stream: String,
    /// The `id` of an event names it.
    pub ids: bool,
    pub id_scope: Option<String>,
    pub window: Option<Duration>,
    /// A frame may take events back.
    pub corrections: bool,
}

/// Who sends the frames of a socket.
pub struct FrameSender {
    pub services: SocketServices,
    pub intake: Arc<Intake>,
    pub handshake: Arc<Handshake>,
    pub key: Arc<Key>,
    pub client: Arc<str>,
    /// Whether the key is one that the client has shown.
    pub has_key: bool,
    /// Locked by each frame until its events have their place in the log's order.
    pub order: Mutex<()>,
    pub answers: Arc<WaitingAnswers>,
}

/// The answer to a frame.
pub struct Answer {
    pub text: String,
    /// The memory of the answer, until it is sent.
    _share: Share,
    /// The answers of the socket that wait to be sent.
    waiting: Arc<WaitingAnswers>,
}

/// The bytes of the answers of a socket that are known, and wait for earlier ones or to be sent.
#[derive(Default)]
pub struct WaitingAnswers(AtomicUsize);

impl WaitingAnswers {
    pub fn answer(self: &Arc<Self>, text: String, share: Share) -> Answer {
        self.0.fetch_add(text.len(), Ordering::Relaxed);
        Answer { text, _share: share, waiting: Arc::clone(self) }
    }

    pub fn refusal(self: &Arc<Self>, error: &ApiError) -> Answer {
        self.answer(refusal(error), Share::default())
    }

    /// Returns whether another frame may be read.
    pub fn have_room(&self) -> bool {
        self.0.load(Ordering::Relaxed) < FRAME_ANSWERS_WAITING_BYTES_MAX
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.waiting.0.fetch_sub(self.text.len(), Ordering::Relaxed);
    }
}

/// The answer to a frame whose events are durable.
#[derive(Serialize)]
struct Accepted {
    accepted: usize,
    ids: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    /// The indexes of the events that were recognised as repeats.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    repeats: Vec<usize>,
}

/// The answer to a frame of which nothing is stored.
#[derive(Serialize)]
struct Refused {
    accepted: usize,
    error: serde_json::Value,
}

/// The texts of a frame's events.
struct Texts<'a> {
    all: Vec<&'a str>,
    index: fn(u64) -> EventIndex,
}

impl FrameSender {
    /// Admits all events of a frame, or none, and returns the answer.
    pub async fn answer(&self, frame: &str) -> Answer {
        let mut share = self.share();
        let bytes = (FRAME_ANSWER_FACTOR * frame.len()).min(FRAME_ANSWER_BYTES_MAX);
        // The answers to small frames are counted once they are known.
        if bytes > SOCKET_MESSAGE_BYTES_UNCOUNTED_MAX
            && let Err(error) = share.grow_to(bytes)
        {
            return self.answers.refusal(&error);
        }
        let text = match self.admit(frame).await {
            Ok(accepted) => json(&accepted),
            Err(error) => refusal(&error),
        };
        self.answers.answer(text, share)
    }

    /// Returns the share in which the client's messages count.
    pub fn share(&self) -> Share {
        if self.has_key { Share::keyed(self.handshake.peer) } else { Share::open(self.handshake.peer) }
    }

    async fn admit(&self, frame: &str) -> Result<Accepted, ApiError> {
        let (admission, intake) = (&self.services.admission, &self.intake);
        let texts = texts(frame)?;
        let scope = intake.id_scope.as_deref().unwrap_or_else(|| self.key.id_scope());
        let sent_from = SentFrom { client: Some(&self.client), ..self.handshake.sent_from() };
        let ids = IdScope { stream: &intake.stream, scope };
        let context = Context { ids, window: intake.window, sent_from, trace: None, idempotency_key: None };
        let in_order = self.order.lock().await;
        let mut corrections = if intake.corrections && Corrections::possible(frame.as_bytes()) {
            admission.corrections(ids, texts.all.iter().copied()).await?
        } else {
            Corrections::default()
        };
        let name = if intake.ids { OfferName::OwnId } else { OfferName::Unnamed };
        let offers = texts.all.iter().map(|text| Ok(Offer { text, name }));
        let checked =
            check_all(admission, &context, frame.len(), offers, texts.index, &mut corrections).await?;
        if checked.is_empty() {
            return Ok(Accepted { accepted: 0, ids: Vec::new(), position: None, repeats: Vec::new() });
        }
        let durable = admission.queue(&context, &checked, corrections);
        drop(in_order);
        let Appended { position, ids, repeats } = durable.await?;
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        Ok(Accepted { accepted: ids.len(), ids, position: Some(position), repeats })
    }
}

/// Splits a frame into the texts of its events: one object, the items of an array, or several objects, which are
/// usually lines.
fn texts(frame: &str) -> Result<Texts<'_>, ApiError> {
    let frame = frame.trim_ascii();
    if frame.starts_with('[') {
        return Ok(Texts { all: array_items(frame)?, index: EventIndex::Index });
    }
    // One object may be written in several lines, too.
    if memchr::memchr(b'\n', frame.as_bytes()).is_none() {
        return Ok(Texts { all: vec![frame], index: EventIndex::Index });
    }
    let mut all = Vec::new();
    for value in serde_json::Deserializer::from_str(frame).into_iter::<&RawValue>() {
        let value = value.map_err(|error| FieldErrors::of_event(json_in_plain_words(&error.to_string())))?;
        if all.len() == ARRAY_EVENTS_MAX {
            return Err(Refusal::TooMany { events_max: ARRAY_EVENTS_MAX }.into());
        }
        all.push(value.get());
    }
    Ok(Texts { all, index: |number| EventIndex::Line(number + 1) })
}

/// Returns the answer that tells a client about a refusal.
pub fn refusal(error: &ApiError) -> String {
    error.count();
    let mut problem = error.problem();
    if let ApiError::Refused(Refusal::Unauthorized { fault, .. }) = error {
        problem["detail"] = format!("{}; {HOW_TO_SIGN_IN}", fault.as_str()).into();
    }
    if let Some(faults) = problem["errors"].as_array_mut() {
        faults.truncate(FRAME_FAULTS_LISTED_MAX);
    }
    json(&Refused { accepted: 0, error: problem })
}

const HOW_TO_SIGN_IN: &str = r#"send a key in the header `Authorization`, as the second subprotocol, or as {"auth":{"token":"..."}} in the first frame"#;

fn json(answer: &impl Serialize) -> String {
    serde_json::to_string(answer).expect("texts and numbers are serializable")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_an_object_an_array_or_lines() {
        let of = |frame| texts(frame).map(|texts| (texts.all.join("|"), (texts.index)(0)));
        let (first, line) = (EventIndex::Index(0), EventIndex::Line(1));
        for (frame, expected) in [
            ("{\"a\":1}", ("{\"a\":1}", first)),
            (" [{\"a\":1}, 2 ]\n", ("{\"a\":1}|2", first)),
            ("[]", ("", first)),
            ("{\"a\":1}\n{\"a\":2}\n", ("{\"a\":1}|{\"a\":2}", line)),
            ("{\"a\":1}\r\n\r\n{\"a\":2}", ("{\"a\":1}|{\"a\":2}", line)),
            ("{\n  \"a\": 1\n}", ("{\n  \"a\": 1\n}", line)),
            ("no JSON", ("no JSON", first)),
        ] {
            assert_eq!(of(frame), Ok((expected.0.to_owned(), expected.1)), "{frame}");
        }
        for frame in ["[1,", "{\"a\":1}\n{\"a\":", "{\"a\":1}\nx"] {
            assert!(of(frame).is_err(), "{frame}");
        }
        let many = "{}\n".repeat(ARRAY_EVENTS_MAX + 1);
        assert!(matches!(of(&many), Err(ApiError::Refused(Refusal::TooMany { .. }))));
    }
}

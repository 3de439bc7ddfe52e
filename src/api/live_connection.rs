//! The connection of one reader of Server-Sent Events: messages, heartbeats, and its end with its key or the server.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::response::Response;
use event::Stop;
use event::limits::{LIVE_CHUNK_BYTES, LIVE_HEARTBEAT_INTERVAL, LIVE_RETRY_DELAY_MAX, LIVE_RETRY_DELAY_MIN};
use futures_util::FutureExt;
use futures_util::stream::{Stream, once, unfold};
use tokio::time::{Instant, sleep_until};

use crate::admission::{KeyWatch, Keys, Reader, next_revocation};
use crate::http::{
    OpenSocket, begin_event, event_stream, is_one_line, write_event, write_heartbeat, write_retry,
};
use crate::live::{Message, Subscriptions};

/// One reader's connection.
pub struct Connection {
    subscriptions: Subscriptions,
    keys: Keys,
    key_watch: KeyWatch,
    stop: Stop,
    /// The next event besides messages. It is kept from message to message, because a new wait costs more than a message.
    interruption: Pin<Box<dyn Future<Output = Interruption> + Send>>,
    begun: bool,
    has_ended: bool,
    last_sent: Instant,
    _place: OpenSocket,
}

/// A content that several answers share.
struct Shared(Arc<str>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Pieces of the answer. A large content is a piece that all readers share.
#[derive(Default)]
struct Pieces {
    done: VecDeque<Bytes>,
    text: String,
    bytes: usize,
}

impl Pieces {
    fn event(&mut self, name: Option<&str>, id: &str, content: Option<&Arc<str>>) {
        self.bytes += id.len() + content.map_or(0, |content| content.len());
        match content {
            Some(content) if content.len() > LIVE_CHUNK_BYTES && is_one_line(content) => {
                begin_event(&mut self.text, name, id);
                self.text.push_str("data: ");
                self.done.push_back(std::mem::take(&mut self.text).into());
                self.done.push_back(Bytes::from_owner(Shared(Arc::clone(content))));
                self.text.push_str("\n\n");
            }
            content => write_event(&mut self.text, name, id, content.map_or("", |content| content)),
        }
    }

    fn is_empty(&self) -> bool {
        self.done.is_empty() && self.text.is_empty()
    }

    fn done(mut self) -> VecDeque<Bytes> {
        self.done.push_back(self.text.into());
        self.done
    }
}

enum Interruption {
    Stop,
    Revoked,
    Time,
}

impl Connection {
    pub fn new(
        keys: &Keys,
        reader: &Reader,
        stop: &Stop,
        subscriptions: Subscriptions,
        place: OpenSocket,
    ) -> Self {
        let now = Instant::now();
        let key_watch = KeyWatch::new(reader.held().copied(), now);
        // Asked for before the key is checked, so that no revocation is missed.
        let interruption = interruption(stop, keys, next_tick(now, now, &key_watch));
        Self {
            subscriptions,
            keys: keys.clone(),
            key_watch,
            stop: stop.clone(),
            interruption,
            begun: false,
            has_ended: false,
            last_sent: now,
            _place: place,
        }
    }

    /// Returns the pieces of the answer, as they come.
    pub fn pieces(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        unfold((self, VecDeque::new()), |(mut connection, mut ready)| async {
            if ready.is_empty() {
                ready = connection.next_pieces().await?.done();
            }
            let piece = ready.pop_front()?;
            Some((Ok(piece), (connection, ready)))
        })
    }

    /// Waits for the next pieces of the answer; `None` at its end.
    async fn next_pieces(&mut self) -> Option<Pieces> {
        let mut piece = Pieces::default();
        if self.has_ended {
            return None;
        }
        if !std::mem::replace(&mut self.begun, true) {
            // At once, so that the reader knows that it is connected.
            write_retry(&mut piece.text, retry_delay());
            self.check_key(&mut piece);
            return Some(piece);
        }
        while piece.is_empty() {
            tokio::select! {
                (_, message) = self.subscriptions.next() => self.write_messages(&mut piece, &message),
                interruption = &mut self.interruption => self.interrupt(&mut piece, &interruption),
            }
        }
        Some(piece)
    }

    /// Writes a message, and those that are there already.
    fn write_messages(&mut self, piece: &mut Pieces, first: &Message) {
        self.write(piece, first);
        while piece.bytes < LIVE_CHUNK_BYTES
            && let Some((_, message)) = self.subscriptions.next().now_or_never()
        {
            self.write(piece, &message);
        }
        self.last_sent = Instant::now();
    }

    fn write(&self, piece: &mut Pieces, message: &Message) {
        // The browser gives messages without a name to `onmessage`, and those without content to nobody.
        let name =
            (!matches!(message, Message::Change { .. } | Message::Place { .. })).then(|| message.name());
        piece.event(name, &self.subscriptions.place(), message.content());
    }

    fn interrupt(&mut self, piece: &mut Pieces, interruption: &Interruption) {
        let now = Instant::now();
        match interruption {
            Interruption::Stop => return self.end(piece, "stopping"),
            Interruption::Revoked => {}
            Interruption::Time => {
                if now >= self.last_sent + LIVE_HEARTBEAT_INTERVAL {
                    write_heartbeat(&mut piece.text);
                    self.last_sent = now;
                }
                self.key_watch.checked(now);
            }
        }
        self.interruption =
            self::interruption(&self.stop, &self.keys, next_tick(self.last_sent, now, &self.key_watch));
        self.check_key(piece);
    }

    fn check_key(&mut self, piece: &mut Pieces) {
        if !self.key_watch.holds(&self.keys) {
            self.end(piece, "key-ended");
        }
    }

    /// Ends the answer after a message that says why.
    fn end(&mut self, piece: &mut Pieces, reason: &str) {
        let content = serde_json::json!({ "reason": reason }).to_string();
        write_event(&mut piece.text, Some("end"), "", &content);
        self.has_ended = true;
    }
}

/// Waits for a stop, for a revocation of any key, or until `at`.
fn interruption(stop: &Stop, keys: &Keys, at: Instant) -> Pin<Box<dyn Future<Output = Interruption> + Send>> {
    let (stop, revoked) = (stop.clone(), next_revocation(keys.revocations()));
    Box::pin(async move {
        tokio::select! {
            () = stop.wait() => Interruption::Stop,
            () = revoked => Interruption::Revoked,
            () = sleep_until(at) => Interruption::Time,
        }
    })
}

/// Returns when a heartbeat may be due, or the key has to be checked.
fn next_tick(last_sent: Instant, now: Instant, key_watch: &KeyWatch) -> Instant {
    let heartbeat = (last_sent + LIVE_HEARTBEAT_INTERVAL).max(now);
    key_watch.deadline().map_or(heartbeat, |at| at.min(heartbeat))
}

/// Returns an answer that ends at once, and says when to connect again.
pub fn try_again(after: Duration) -> Response {
    let mut text = String::new();
    write_retry(&mut text, after + retry_delay());
    write_event(&mut text, Some("end"), "", r#"{"reason":"try-again"}"#);
    event_stream(once(ready(Ok(text.into()))))
}

/// Returns a random delay, so that readers do not all come back at once.
fn retry_delay() -> Duration {
    let mut random = [0_u8; 2];
    // Without random bytes, the delay is the shortest one.
    let _ = getrandom::fill(&mut random);
    let share = f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX);
    LIVE_RETRY_DELAY_MIN + (LIVE_RETRY_DELAY_MAX - LIVE_RETRY_DELAY_MIN).mul_f64(share)
}

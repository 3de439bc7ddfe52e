//! The connection of one reader of Server-Sent Events: messages, heartbeats, and its end with its key or the server.

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use axum::body::Bytes;
use event::Stop;
use event::limits::{LIVE_CHUNK_BYTES, LIVE_HEARTBEAT_INTERVAL, LIVE_RETRY_DELAY_MAX, LIVE_RETRY_DELAY_MIN};
use futures_util::FutureExt;
use futures_util::stream::{Stream, unfold};
use tokio::time::{Instant, sleep_until};

use crate::admission::{KeyWatch, Keys, Reader, next_revocation};
use crate::http::{OpenSocket, write_event, write_heartbeat, write_retry};
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
        unfold(self, |mut connection| async {
            let piece = connection.next_piece().await?;
            Some((Ok(piece.into()), connection))
        })
    }

    /// Waits for the next piece of the answer; `None` at its end.
    async fn next_piece(&mut self) -> Option<String> {
        let mut piece = String::new();
        if self.has_ended {
            return None;
        }
        if !std::mem::replace(&mut self.begun, true) {
            // At once, so that the reader knows that it is connected.
            write_retry(&mut piece, retry_delay());
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
    fn write_messages(&mut self, piece: &mut String, first: &Message) {
        self.write(piece, first);
        while piece.len() < LIVE_CHUNK_BYTES
            && let Some((_, message)) = self.subscriptions.next().now_or_never()
        {
            self.write(piece, &message);
        }
        self.last_sent = Instant::now();
    }

    fn write(&self, piece: &mut String, message: &Message) {
        // The browser gives messages without a name to `onmessage`, and those without content to nobody.
        let name =
            (!matches!(message, Message::Change { .. } | Message::Place { .. })).then(|| message.name());
        write_event(piece, name, &self.subscriptions.place(), message.content());
    }

    fn interrupt(&mut self, piece: &mut String, interruption: &Interruption) {
        let now = Instant::now();
        match interruption {
            Interruption::Stop => return self.end(piece, "stopping"),
            Interruption::Revoked => {}
            Interruption::Time => {
                if now >= self.last_sent + LIVE_HEARTBEAT_INTERVAL {
                    write_heartbeat(piece);
                    self.last_sent = now;
                }
                self.key_watch.checked(now);
            }
        }
        self.interruption =
            self::interruption(&self.stop, &self.keys, next_tick(self.last_sent, now, &self.key_watch));
        self.check_key(piece);
    }

    fn check_key(&mut self, piece: &mut String) {
        if !self.key_watch.holds(&self.keys) {
            self.end(piece, "key-ended");
        }
    }

    /// Ends the answer after a message that says why.
    fn end(&mut self, piece: &mut String, reason: &str) {
        write_event(piece, Some("end"), "", &serde_json::json!({ "reason": reason }).to_string());
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

/// Returns a random delay, so that readers do not all come back at once.
fn retry_delay() -> Duration {
    let mut random = [0_u8; 2];
    // Without random bytes, the delay is the shortest one.
    let _ = getrandom::fill(&mut random);
    let share = f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX);
    LIVE_RETRY_DELAY_MIN + (LIVE_RETRY_DELAY_MAX - LIVE_RETRY_DELAY_MIN).mul_f64(share)
}

//! An open WebSocket: one task that reads frames, has them admitted, and answers them in their order.

use std::convert::Infallible;
use std::sync::Arc;

use event::LogSample;
use event::limits::{SOCKET_MESSAGE_BYTES_MAX, SOCKET_PING_INTERVAL, SOCKET_PONG_DURATION_MAX};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use super::frame::{Answer, FrameSender, Intake, WaitingAnswers, refusal};
use super::sign_in;
use crate::admission::{
    Credentials, HeldKey, Key, KeyFault, KeyWatch, Refusal, Scope, next_revocation,
};
use crate::http::websocket::{Message, WebSocket};
use crate::http::{ApiError, Handshake, OpenSocket, Share, random_id};
use crate::sources::SocketServices;
use crate::sources::pending::Pending;
use crate::sources::session_clock::SessionClock;
use crate::sources::socket_end::SocketEnd;

/// The parts of a new session.
pub struct Opening {
    pub services: SocketServices,
    pub intake: Arc<Intake>,
    pub handshake: Arc<Handshake>,
    pub place: OpenSocket,
    pub socket: WebSocket,
    /// The key with which events are admitted; `None` until the client has shown one.
    pub key: Option<(Arc<Key>, Option<HeldKey>)>,
}

pub struct Session {
    services: SocketServices,
    intake: Arc<Intake>,
    handshake: Arc<Handshake>,
    place: OpenSocket,
    socket: WebSocket,
    /// Set once the client may send.
    sender: Option<Arc<FrameSender>>,
    key_watch: KeyWatch,
    /// The answers to frames, in the order of the frames.
    pending: Pending<Answer>,
    answers: Arc<WaitingAnswers>,
    clock: SessionClock,
    frames: u64,
}

const NOT_SIGNED_IN: SocketEnd = SocketEnd::Refused("the client did not show a key in time");
const KEY_ENDED: SocketEnd = SocketEnd::Refused("the key was revoked or has expired");

/// The event that ended the wait of a session.
enum Wakeup {
    Stop,
    Revoked,
    Answer(Answer),
    Message(Message),
    Time,
}

impl Session {
    pub fn new(opening: Opening) -> Self {
        let Opening { services, intake, handshake, place, socket, key } = opening;
        let now = Instant::now();
        let mut session = Self {
            services,
            intake,
            handshake,
            place,
            socket,
            sender: None,
            key_watch: KeyWatch::new(None, now),
            pending: Pending::default(),
            answers: Arc::default(),
            clock: SessionClock::start(now, SOCKET_PING_INTERVAL, SOCKET_PONG_DURATION_MAX, NOT_SIGNED_IN),
            frames: 0,
        };
        if let Some((key, held)) = key {
            session.may_send(key, held);
        }
        session
    }

    pub async fn run(mut self) {
        let end = match self.live().await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        self.note_end(end);
        let unread = match end {
            SocketEnd::TooLarge => {
                Some(Refusal::TooLarge { what: "a frame", bytes_max: SOCKET_MESSAGE_BYTES_MAX })
            }
            SocketEnd::Overloaded => Some(Refusal::Overloaded),
            _ => None,
        };
        if let Some(unread) = unread {
            let _ = self.socket.send([refusal(&unread.into())]).await;
        }
        self.socket.close(end.close_reason(), end.as_str()).await;
    }

    async fn live(&mut self) -> Result<Infallible, SocketEnd> {
        let stop = self.services.sockets.stop().clone();
        let mut stopped = std::pin::pin!(stop.wait());
        let mut revoked = std::pin::pin!(next_revocation(self.services.admission.keys.revocations()));
        let mut timer = std::pin::pin!(sleep_until(self.deadline()));
        // A revocation before the subscription does not wake the session.
        self.key_has_ended().into_iter().for_each(|end| self.clock.end(end));
        loop {
            if let Some(end) = self.clock.ending().filter(|_| self.pending.is_empty()) {
                return Err(end);
            }
            let (deadline, is_ending) = (self.deadline(), self.clock.ending().is_some());
            let may_read = !is_ending && self.pending.has_room() && self.answers.have_room();
            // A client that always sends would keep the branches behind its frames from their turn.
            let wakeup = if stop.asked() && !is_ending {
                Wakeup::Stop
            } else if Instant::now() >= deadline {
                Wakeup::Time
            } else {
                if timer.deadline() != deadline {
                    timer.as_mut().reset(deadline);
                }
                let Self { pending, socket, .. } = self;
                tokio::select! {
                    biased;
                    Some(answer) = pending.next() => Wakeup::Answer(answer),
                    message = socket.next(), if may_read => Wakeup::Message(message),
                    () = &mut stopped, if !is_ending => Wakeup::Stop,
                    () = &mut revoked => Wakeup::Revoked,
                    () = &mut timer => Wakeup::Time,
                }
            };
            if matches!(wakeup, Wakeup::Revoked) {
                // Before the key is looked up, so that no revocation is missed.
                revoked.set(next_revocation(self.services.admission.keys.revocations()));
            }
            if let Err(end) = self.wake(wakeup).await {
                if end == SocketEnd::NoAnswerToPing {
                    return Err(end);
                }
                // Frames that were received are admitted, also if nobody gets the answers.
                self.clock.end(end);
            }
        }
    }

    async fn wake(&mut self, wakeup: Wakeup) -> Result<(), SocketEnd> {
        match wakeup {
            Wakeup::Stop => return Err(SocketEnd::Stopping),
            Wakeup::Revoked => return self.key_has_ended().map_or(Ok(()), Err),
            Wakeup::Answer(answer) => {
                // One write takes the answers to all frames whose events became durable together.
                let mut answers = vec![answer];
                answers.extend(std::iter::from_fn(|| self.pending.next_known()));
                let sent = self.socket.send(answers.iter().map(|answer| &answer.text));
                self.pending.during(sent).await.map_err(|()| SocketEnd::Left)?;
            }
            Wakeup::Message(message) => {
                self.clock.heard(Instant::now());
                match message {
                    Message::Text(frame) => self.receive(&frame)?,
                    Message::Binary => {
                        let reason = "contains binary data; send JSON as text".to_owned();
                        self.refuse(&ApiError::Parameter { name: "frame", reason });
                    }
                    Message::Pong => self.clock.answered(Instant::now()),
                    other => return SocketEnd::of_message(&other).map_or(Ok(()), Err),
                }
            }
            Wakeup::Time => self.receive_time(Instant::now()).await?,
        }
        Ok(())
    }

    fn receive(&mut self, frame: &Arc<str>) -> Result<(), SocketEnd> {
        let Some(sender) = self.sender.clone() else {
            return match self.sign_in(frame) {
                Ok(()) => {
                    let answer = self.answers.answer(r#"{"signedIn":true}"#.to_owned(), Share::default());
                    self.pending.push(0, std::future::ready(answer));
                    Ok(())
                }
                Err(error) => {
                    self.refuse(&error);
                    Err(match error.retry_after_seconds() {
                        Some(_) => SocketEnd::TryAgain,
                        None => SocketEnd::Refused("the client may not send here"),
                    })
                }
            };
        };
        if let Some(end) = self.key_has_ended() {
            return Err(end);
        }
        match self.count_rate() {
            Ok(()) => {
                self.frames += 1;
                let frame = Arc::clone(frame);
                self.pending.push(frame.len(), async move { sender.answer(&frame).await });
            }
            Err(error) => self.refuse(&error),
        }
        Ok(())
    }

    fn count_rate(&self) -> Result<(), ApiError> {
        self.services.rates.count_address(self.handshake.peer.0)?;
        self.services.rates.count_known(self.key_watch.counted_as())
    }

    /// Answers a frame of which nothing is stored.
    fn refuse(&mut self, error: &ApiError) {
        self.pending.push(0, std::future::ready(self.answers.refusal(error)));
    }

    fn sign_in(&mut self, frame: &str) -> Result<(), ApiError> {
        let missing = Refusal::Unauthorized { scope: Scope::Send, fault: KeyFault::Missing };
        let token = sign_in::of_first_frame(frame).ok_or(missing)?;
        let presented = Credentials { literals: [Some(&token), None], unreadable: false };
        let (keys, stream) = (&self.services.admission.keys, &self.intake.stream);
        let (key, held) = keys.authorize_connection(presented, Scope::Send, Some(stream), false)?;
        self.services.admission.fields(stream)?;
        self.may_send(key, held);
        Ok(())
    }

    fn may_send(&mut self, key: Arc<Key>, held: Option<HeldKey>) {
        static LINES: LogSample = LogSample::new();
        self.place.signed_in();
        self.clock.sign_in(true, Instant::now());
        self.key_watch = KeyWatch::new(held, Instant::now());
        // Without random bytes the connection has no name, which only the envelope lacks then.
        let client = random_id().unwrap_or_else(|_| "unnamed".into());
        let sender = FrameSender {
            services: self.services.clone(),
            intake: Arc::clone(&self.intake),
            handshake: Arc::clone(&self.handshake),
            key,
            client,
            has_key: held.is_some(),
            order: Mutex::default(),
            answers: Arc::clone(&self.answers),
        };
        let (client, address, stream) = (&*sender.client, self.handshake.peer.0, &self.intake.stream);
        if let Some(left_out) = LINES.next() {
            tracing::info!(client, %address, stream, left_out, "client connected");
        }
        self.socket.set_share(sender.share());
        self.sender = Some(Arc::new(sender));
    }

    fn note_end(&self, end: SocketEnd) {
        static LINES: LogSample = LogSample::new();
        let (reason, address, frames) = (end.as_str(), self.handshake.peer.0, self.frames);
        let Some(sender) = &self.sender else {
            tracing::debug!(%address, reason, "socket closed before the client had shown a key");
            return;
        };
        if let Some(left_out) = LINES.next() {
            tracing::info!(client = &*sender.client, %address, reason, frames, left_out, "client gone");
        }
    }

    /// Returns the end of the session if its key was revoked or has expired.
    fn key_has_ended(&self) -> Option<SocketEnd> {
        (!self.key_watch.holds(&self.services.admission.keys)).then_some(KEY_ENDED)
    }

    async fn receive_time(&mut self, now: Instant) -> Result<(), SocketEnd> {
        // A part of a message shows that the client is alive, too.
        self.clock.heard(self.socket.heard_at());
        if self.clock.tick(now)? {
            self.pending.during(self.socket.ping()).await.map_err(|()| SocketEnd::Left)?;
        }
        self.key_watch.checked(now);
        self.key_has_ended().map_or(Ok(()), Err)
    }

    /// Returns when something has to be done even if nothing arrives.
    fn deadline(&self) -> Instant {
        self.clock.deadline([self.key_watch.deadline()])
    }
}

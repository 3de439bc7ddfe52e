//! An open WebSocket: one task that reads frames, has them admitted, and answers them in their order.

use std::sync::Arc;
use std::time::Duration;

use event::limits::{
    SOCKET_MESSAGE_BYTES_MAX, SOCKET_PING_INTERVAL, SOCKET_PONG_DURATION_MAX, SOCKET_SIGN_IN_DURATION_MAX,
};
use event::{LogSample, Millis};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::frame::{FrameSender, Intake, refusal};
use super::sign_in;
use crate::admission::{Credentials, HeldKey, Key, KeyFault, Refusal, Scope};
use crate::http::websocket::{CloseReason, Frame, Utf8Bytes, WebSocket};
use crate::http::{ApiError, Handshake, OpenSocket, random_id};
use crate::sources::SocketServices;
use crate::sources::heartbeat::{Beat, Heartbeat};
use crate::sources::pending::Pending;

/// What a session begins with.
pub struct Opening {
    pub services: SocketServices,
    pub intake: Arc<Intake>,
    pub handshake: Arc<Handshake>,
    pub place: OpenSocket,
    pub socket: WebSocket,
    /// The key with which events are admitted; `None` until the client has shown one.
    pub key: Option<Arc<Key>>,
    pub held_key: Option<HeldKey>,
    pub counted_as: Option<u128>,
}

pub struct Session {
    services: SocketServices,
    intake: Arc<Intake>,
    handshake: Arc<Handshake>,
    place: OpenSocket,
    socket: WebSocket,
    /// Set once the client may send.
    sender: Option<Arc<FrameSender>>,
    held_key: Option<HeldKey>,
    counted_as: Option<u128>,
    client: Arc<str>,
    /// The answers to frames, in the order of the frames.
    pending: Pending<String>,
    heartbeat: Heartbeat,
    /// When a client that has not shown a key has to leave.
    sign_in_by: Option<Instant>,
    revocations: watch::Receiver<()>,
    /// Set when the session ends as soon as the frames that it has received are answered.
    ending: Option<End>,
    frames: u64,
}

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The client left, or its connection broke.
    Left,
    NoAnswerToPing,
    /// The client may not send, or has not said who it is.
    Refused(&'static str),
    TooLarge,
    Stopping,
}

impl End {
    fn as_str(self) -> &'static str {
        match self {
            Self::Left => "the client left",
            Self::NoAnswerToPing => "the client did not answer a ping",
            Self::Refused(reason) => reason,
            Self::TooLarge => "a frame is too large",
            Self::Stopping => "the server is stopping",
        }
    }

    fn close_reason(self) -> CloseReason {
        match self {
            Self::Left | Self::NoAnswerToPing => CloseReason::Normal,
            Self::Refused(_) => CloseReason::Refused,
            Self::TooLarge => CloseReason::TooLarge,
            Self::Stopping => CloseReason::Stopping,
        }
    }
}

const KEY_ENDED: End = End::Refused("the key was revoked or has expired");

/// What wakes a session up.
enum Wakeup {
    Stop,
    Revoked,
    Answer(String),
    Frame(Frame),
    Time,
}

impl Session {
    pub fn new(opening: Opening) -> Self {
        let Opening { services, intake, handshake, place, socket, key, held_key, counted_as } = opening;
        let now = Instant::now();
        let mut session = Self {
            sender: None,
            client: "".into(),
            pending: Pending::default(),
            heartbeat: Heartbeat::start(now, SOCKET_PING_INTERVAL, SOCKET_PONG_DURATION_MAX),
            sign_in_by: Some(now + SOCKET_SIGN_IN_DURATION_MAX),
            revocations: services.admission.keys.revocations(),
            ending: None,
            frames: 0,
            services,
            intake,
            handshake,
            place,
            socket,
            held_key,
            counted_as,
        };
        if let Some(key) = key {
            session.may_send(key);
        }
        session
    }

    pub async fn run(mut self) {
        let end = match self.live().await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        static LINES: LogSample = LogSample::new();
        let (client, address, frames) = (&*self.client, self.handshake.peer.0, self.frames);
        if let (true, Some(left_out)) = (self.sender.is_some(), LINES.next()) {
            tracing::info!(client, %address, reason = end.as_str(), frames, left_out, "client gone");
        }
        if end == End::TooLarge {
            let error = Refusal::TooLarge { what: "a frame", bytes_max: SOCKET_MESSAGE_BYTES_MAX };
            let _ = self.socket.send([refusal(&error.into()).into()]).await;
        }
        self.socket.close(end.close_reason(), end.as_str()).await;
    }

    async fn live(&mut self) -> Result<std::convert::Infallible, End> {
        let stop = self.services.sockets.stop().clone();
        let mut stopped = std::pin::pin!(async move { stop.wait().await });
        let mut timer = std::pin::pin!(sleep_until(self.deadline()));
        loop {
            if let Some(end) = self.ending.filter(|_| self.pending.is_empty()) {
                return Err(end);
            }
            let deadline = self.deadline();
            if timer.deadline() != deadline {
                timer.as_mut().reset(deadline);
            }
            let ending = self.ending.is_some();
            let may_read = !ending && self.pending.has_room();
            let Self { pending, socket, revocations, .. } = self;
            let wakeup = tokio::select! {
                biased;
                () = &mut stopped, if !ending => Wakeup::Stop,
                Ok(()) = revocations.changed() => Wakeup::Revoked,
                Some(answer) = pending.next() => Wakeup::Answer(answer),
                frame = socket.next(), if may_read => Wakeup::Frame(frame),
                () = &mut timer => Wakeup::Time,
            };
            self.wake(wakeup).await?;
        }
    }

    async fn wake(&mut self, wakeup: Wakeup) -> Result<(), End> {
        match wakeup {
            Wakeup::Stop => self.ending = Some(End::Stopping),
            Wakeup::Revoked => self.expect_key()?,
            Wakeup::Answer(answer) => {
                // One write takes the answers to all frames whose events became durable together.
                let pending = &mut self.pending;
                let more = std::iter::from_fn(|| pending.next_known());
                let answers = std::iter::once(answer).chain(more).map(Utf8Bytes::from);
                self.socket.send(answers).await.map_err(|()| End::Left)?;
            }
            Wakeup::Frame(Frame::Text(frame)) => self.receive(frame),
            Wakeup::Frame(Frame::Binary(_)) => {
                self.heartbeat.heard(Instant::now());
                self.refuse(ApiError::Parameter {
                    name: "frame",
                    reason: "contains binary data; send JSON as text".to_owned(),
                });
            }
            Wakeup::Frame(Frame::Pong) => self.heartbeat.answered(Instant::now()),
            Wakeup::Frame(Frame::TooLarge) => self.ending = Some(End::TooLarge),
            Wakeup::Frame(Frame::Closed) => return Err(End::Left),
            Wakeup::Time => self.receive_time(Instant::now()).await?,
        }
        Ok(())
    }

    fn receive(&mut self, frame: Utf8Bytes) {
        self.heartbeat.heard(Instant::now());
        match &self.sender {
            Some(sender) => match self.count_rate() {
                Ok(()) => {
                    self.frames += 1;
                    let sender = Arc::clone(sender);
                    self.pending.push(frame.len(), async move { sender.answer(&frame).await });
                }
                Err(error) => self.refuse(error),
            },
            None => match self.sign_in(&frame) {
                Ok(()) => self.pending.push(0, std::future::ready(r#"{"signedIn":true}"#.to_owned())),
                Err(error) => {
                    self.refuse(error);
                    self.ending = Some(End::Refused("the client has shown no valid key"));
                }
            },
        }
    }

    fn count_rate(&self) -> Result<(), ApiError> {
        self.services.rates.count_address(self.handshake.peer.0)?;
        self.services.rates.count_known(self.counted_as)
    }

    /// Answers a frame of which nothing is stored.
    fn refuse(&mut self, error: ApiError) {
        self.pending.push(0, std::future::ready(refusal(&error)));
    }

    fn sign_in(&mut self, frame: &str) -> Result<(), ApiError> {
        let missing = Refusal::Unauthorized { scope: Scope::Send, fault: KeyFault::Missing };
        let token = sign_in::of_first_frame(frame).ok_or(missing)?;
        let presented = Credentials { literals: [Some(&token), None], unreadable: false };
        let keys = &self.services.admission.keys;
        let key = keys.authorize(presented, Scope::Send, Some(&self.intake.stream), false)?;
        self.services.admission.fields(&self.intake.stream)?;
        (self.held_key, self.counted_as) = (keys.held(presented), keys.counted_as(presented));
        self.may_send(key);
        Ok(())
    }

    fn may_send(&mut self, key: Arc<Key>) {
        static LINES: LogSample = LogSample::new();
        self.place.signed_in();
        self.sign_in_by = None;
        // Without random bytes the connection has no name, which only the envelope lacks then.
        self.client = random_id().unwrap_or_else(|_| "unnamed".into());
        self.sender = Some(Arc::new(FrameSender {
            services: self.services.clone(),
            intake: Arc::clone(&self.intake),
            handshake: Arc::clone(&self.handshake),
            client: Arc::clone(&self.client),
            key,
        }));
        let (client, address, stream) = (&*self.client, self.handshake.peer.0, &self.intake.stream);
        if let Some(left_out) = LINES.next() {
            tracing::info!(client, %address, stream, left_out, "client connected");
        }
    }

    /// Fails if the key of the socket was revoked or has expired.
    fn expect_key(&self) -> Result<(), End> {
        let keys = &self.services.admission.keys;
        if self.held_key.as_ref().is_none_or(|held| keys.still_hold(held)) { Ok(()) } else { Err(KEY_ENDED) }
    }

    async fn receive_time(&mut self, now: Instant) -> Result<(), End> {
        self.expect_key()?;
        if self.sign_in_by.is_some_and(|by| now >= by) {
            return Err(End::Refused("the client did not show a key in time"));
        }
        match self.heartbeat.beat(now) {
            Beat::Nothing => Ok(()),
            Beat::Ping => self.socket.ping().await.map_err(|()| End::Left),
            Beat::Gone => Err(End::NoAnswerToPing),
        }
    }

    /// Returns when something has to be done even if nothing arrives.
    fn deadline(&self) -> Instant {
        let expiry = self.held_key.and_then(|held| held.expires).map(|expires| {
            let left = (expires.0 - Millis::now().0).clamp(0, 24 * 3600 * 1000);
            Instant::now() + Duration::from_millis(left as u64 + 1)
        });
        [self.sign_in_by, expiry].into_iter().flatten().fold(self.heartbeat.deadline(), Instant::min)
    }
}

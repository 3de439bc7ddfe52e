//! An open WebSocket: one task that reads frames, has them admitted, and answers them in their order.

use std::convert::Infallible;
use std::sync::Arc;

use event::LogSample;
use event::limits::{
    LIVE_CHUNK_BYTES, SOCKET_MESSAGE_BYTES_MAX, SOCKET_PING_INTERVAL, SOCKET_PONG_DURATION_MAX,
};
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use super::frame::{Answer, FrameSender, WaitingAnswers, refusal};
use super::live_frame::LiveFrame;
use super::sign_in::{self, Purpose, SignIn};
use crate::admission::{Credentials, KeyFault, KeyWatch, Refusal, Scope, next_revocation};
use crate::http::websocket::{Message, WebSocket};
use crate::http::{ApiError, Handshake, OpenSocket, Share, random_id};
use crate::sources::SocketServices;
use crate::sources::pending::Pending;
use crate::sources::session_clock::SessionClock;
use crate::sources::socket_end::SocketEnd;
use crate::sources::watching::Watching;

/// The parts of a new session.
pub struct Opening {
    pub services: SocketServices,
    pub purpose: Purpose,
    pub handshake: Arc<Handshake>,
    pub place: OpenSocket,
    pub socket: WebSocket,
    /// `None` until the client has shown a key.
    pub signed_in: Option<SignIn>,
}

pub struct Session {
    services: SocketServices,
    purpose: Purpose,
    handshake: Arc<Handshake>,
    place: OpenSocket,
    socket: WebSocket,
    /// The name of the connection, once the client has signed in.
    client: Option<Arc<str>>,
    /// Set once the client may send.
    sender: Option<Arc<FrameSender>>,
    /// The client's subscriptions, once it has signed in.
    watching: Option<Watching>,
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
    /// A message of a subscription.
    Change(String),
    Time,
}

impl Session {
    pub fn new(opening: Opening) -> Self {
        let Opening { services, purpose, handshake, place, socket, signed_in } = opening;
        let now = Instant::now();
        let mut session = Self {
            services,
            purpose,
            handshake,
            place,
            socket,
            client: None,
            sender: None,
            watching: None,
            key_watch: KeyWatch::new(None, now),
            pending: Pending::default(),
            answers: Arc::default(),
            clock: SessionClock::start(now, SOCKET_PING_INTERVAL, SOCKET_PONG_DURATION_MAX, NOT_SIGNED_IN),
            frames: 0,
        };
        if let Some(signed_in) = signed_in {
            session.begin(signed_in);
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
                let Self { pending, socket, watching, .. } = self;
                // Whichever comes: neither a client that sends without a pause nor many changes keep the other out.
                let next = async {
                    tokio::select! {
                        message = socket.next(), if may_read => Wakeup::Message(message),
                        change = next_change(watching), if !is_ending => Wakeup::Change(change),
                        else => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    Some(answer) = pending.next() => Wakeup::Answer(answer),
                    () = &mut revoked => Wakeup::Revoked,
                    next = next => next,
                    () = &mut stopped, if !is_ending => Wakeup::Stop,
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
            Wakeup::Change(change) => self.send_changes(change).await?,
            Wakeup::Time => self.receive_time(Instant::now()).await?,
        }
        Ok(())
    }

    /// Sends a message of a subscription, with those that are there already.
    async fn send_changes(&mut self, first: String) -> Result<(), SocketEnd> {
        let (mut bytes, mut changes) = (first.len(), vec![first]);
        while bytes < LIVE_CHUNK_BYTES
            && let Some(change) = self.watching.as_mut().and_then(Watching::next_known)
        {
            bytes += change.len();
            changes.push(change);
        }
        self.pending.during(self.socket.send(changes.iter())).await.map_err(|()| SocketEnd::Left)
    }

    fn receive(&mut self, frame: &Arc<str>) -> Result<(), SocketEnd> {
        if self.client.is_none() {
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
        }
        if let Some(end) = self.key_has_ended() {
            return Err(end);
        }
        if let Err(error) = self.count_rate() {
            self.refuse(&error);
            return Ok(());
        }
        self.frames += 1;
        let asked = LiveFrame::parse(frame).filter(|_| self.has_live_frames());
        match (asked, self.sender.clone()) {
            (Some(asked), _) => self.change_subscriptions(asked),
            (None, Some(sender)) => {
                let frame = Arc::clone(frame);
                self.pending.push(frame.len(), async move { sender.answer(&frame).await });
            }
            (None, None) => {
                let reason = r#"only {"subscribe":{...}} and {"unsubscribe":0} can be sent here"#.to_owned();
                self.refuse(&ApiError::Parameter { name: "frame", reason });
            }
        }
        Ok(())
    }

    /// Returns whether a frame can be about subscriptions: an event of the stream has no field of these names.
    fn has_live_frames(&self) -> bool {
        let Purpose::Send(intake) = &self.purpose else { return true };
        let fields = self.services.admission.fields(&intake.stream);
        fields.is_ok_and(|fields| LiveFrame::NAMES.iter().all(|name| fields.index_of(name).is_none()))
    }

    fn change_subscriptions(&mut self, asked: Result<LiveFrame<'_>, ApiError>) {
        let Some(watching) = &mut self.watching else { return };
        let answer = asked.and_then(|asked| match asked {
            LiveFrame::Subscribe(request) => Ok(json!({ "subscribed": watching.subscribe(request)? })),
            LiveFrame::Unsubscribe(number) => {
                watching.unsubscribe(number)?;
                Ok(json!({ "unsubscribed": number }))
            }
        });
        match answer {
            Ok(answer) => {
                let answer = self.answers.answer(answer.to_string(), Share::default());
                self.pending.push(0, std::future::ready(answer));
            }
            Err(error) => self.refuse(&error),
        }
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
        let scope = if matches!(self.purpose, Purpose::Watch) { Scope::Read } else { Scope::Send };
        let missing = Refusal::Unauthorized { scope, fault: KeyFault::Missing };
        let token = sign_in::of_first_frame(frame).ok_or(missing)?;
        let presented = Credentials { literals: [Some(&token), None], unreadable: false };
        let signed_in = SignIn::of(&self.services, &self.purpose, presented, false)?;
        self.begin(signed_in);
        Ok(())
    }

    fn begin(&mut self, signed_in: SignIn) {
        static LINES: LogSample = LogSample::new();
        let SignIn { key, held, watching } = signed_in;
        self.place.signed_in();
        self.clock.sign_in(true, Instant::now());
        self.key_watch = KeyWatch::new(held, Instant::now());
        // Without random bytes the connection has no name, which only the envelope lacks then.
        let client = random_id().unwrap_or_else(|_| "unnamed".into());
        let (address, mut stream) = (self.handshake.peer.0, "");
        if let (Purpose::Send(intake), Some(key)) = (&self.purpose, key) {
            stream = &intake.stream;
            let sender = FrameSender {
                services: self.services.clone(),
                intake: Arc::clone(intake),
                handshake: Arc::clone(&self.handshake),
                key,
                client: Arc::clone(&client),
                has_key: held.is_some(),
                order: Mutex::default(),
                answers: Arc::clone(&self.answers),
            };
            self.socket.set_share(sender.share());
            self.sender = Some(Arc::new(sender));
        }
        if let Some(left_out) = LINES.next() {
            tracing::info!(client = &*client, %address, stream, left_out, "client connected");
        }
        (self.client, self.watching) = (Some(client), Some(watching));
    }

    fn note_end(&self, end: SocketEnd) {
        static LINES: LogSample = LogSample::new();
        let (reason, address, frames) = (end.as_str(), self.handshake.peer.0, self.frames);
        let Some(client) = self.client.as_deref() else {
            tracing::debug!(%address, reason, "socket closed before the client had shown a key");
            return;
        };
        if let Some(left_out) = LINES.next() {
            tracing::info!(client, %address, reason, frames, left_out, "client gone");
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

async fn next_change(watching: &mut Option<Watching>) -> String {
    match watching {
        Some(watching) => watching.next().await,
        None => std::future::pending().await,
    }
}

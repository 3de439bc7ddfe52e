//! A session: one task that owns a client's transport, its pings and deadlines, and the conversation. It ends when the
//! client leaves, breaks the protocol, stops answering, or when the server stops.

use std::convert::Infallible;
use std::sync::Arc;

use event::limits::{SOCKET_MESSAGE_BYTES_MAX, STOP_IDLE_DURATION_MAX, UPGRADE_DURATION_MAX};
use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

use super::conversation::Conversation;
use super::endpoint::Endpoint;
use super::engine_packet::{self, EnginePacket, SEPARATOR};
use super::live_event::next_change;
use super::pending_event::Decided;
use super::sessions::{ListedSession, SessionRequest};
use super::transport::{Probe, Transport};
use crate::admission::{Refusal, next_revocation};
use crate::http::websocket::{Message, WebSocket};
use crate::http::{Handshake, OpenSocket};
use crate::sources::session_clock::SessionClock;
use crate::sources::socket_end::SocketEnd;

/// The parts of a new session.
pub struct Opening {
    pub endpoint: Arc<Endpoint>,
    pub handshake: Arc<Handshake>,
    pub place: OpenSocket,
}

pub struct Session {
    endpoint: Arc<Endpoint>,
    conversation: Conversation,
    transport: Transport,
    /// The requests of a client that polls; `None` for one that does not.
    listed: Option<ListedSession>,
    post: Option<Post>,
    probe: Option<Probe>,
    clock: SessionClock,
    /// The memory of messages counts as that of a sender with a key.
    counts_with_key: bool,
}

/// Packets of a polling request that are not all processed yet.
struct Post {
    text: Arc<str>,
    /// The part that is processed.
    at: usize,
    answer: oneshot::Sender<bool>,
}

const NOT_SIGNED_IN: SocketEnd = SocketEnd::Refused("the client did not connect to a namespace in time");

/// The event that ended the wait of a session.
enum Wakeup {
    Stop,
    Revoked,
    Decided(Decided),
    Request(SessionRequest),
    Message(Message),
    ProbeMessage(Message),
    /// The packet of a message of a subscription.
    Change(String),
    Time,
}

impl Session {
    pub fn polling(opening: Opening, listed: ListedSession) -> Self {
        Self::new(opening, Transport::Polling { waiting: None }, Some(listed))
    }

    /// `open` is the packet that opens the session.
    pub fn websocket(opening: Opening, socket: Box<WebSocket>, open: String) -> Self {
        let mut session = Self::new(opening, Transport::WebSocket(socket), None);
        session.conversation.outgoing.push(open);
        session
    }

    fn new(opening: Opening, transport: Transport, listed: Option<ListedSession>) -> Self {
        let Opening { endpoint, handshake, place } = opening;
        let now = Instant::now();
        Self {
            conversation: Conversation::new(&endpoint, &handshake, place),
            transport,
            listed,
            post: None,
            probe: None,
            clock: SessionClock::start(now, endpoint.ping_interval, endpoint.ping_timeout, NOT_SIGNED_IN),
            counts_with_key: false,
            endpoint,
        }
    }

    pub async fn run(mut self) {
        let end = match self.live().await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        self.conversation.note_end(end);
        self.finish(end).await;
    }

    async fn live(&mut self) -> Result<Infallible, SocketEnd> {
        let stop = self.endpoint.services.sockets.stop().clone();
        let mut stopped = std::pin::pin!(stop.wait());
        let mut revoked =
            std::pin::pin!(next_revocation(self.endpoint.services.admission.keys.revocations()));
        let mut timer = std::pin::pin!(sleep_until(self.deadline()));
        loop {
            self.work().await?;
            let (deadline, is_ending) = (self.deadline(), self.clock.ending().is_some());
            let may_read = !is_ending && self.conversation.has_room();
            // A client that always sends would keep the branches behind its messages from their turn.
            let wakeup = if stop.asked() && !is_ending {
                Wakeup::Stop
            } else if Instant::now() >= deadline {
                Wakeup::Time
            } else {
                if timer.deadline() != deadline {
                    timer.as_mut().reset(deadline);
                }
                let Self { conversation, transport, listed, probe, .. } = self;
                let Conversation { pending, connections, outgoing, .. } = conversation;
                let may_send = !is_ending && !outgoing.is_full();
                // Whichever comes: neither a client that sends without a pause nor many changes keep the other out.
                let next = async {
                    tokio::select! {
                        message = transport.next_message(), if may_read => Wakeup::Message(message),
                        change = next_change(connections), if may_send => Wakeup::Change(change),
                        else => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    Some(decided) = pending.next() => Wakeup::Decided(decided),
                    () = &mut revoked => Wakeup::Revoked,
                    next = next => next,
                    Some(request) = next_request(listed) => Wakeup::Request(request),
                    message = next_probe_message(probe) => Wakeup::ProbeMessage(message),
                    () = &mut stopped, if !is_ending => Wakeup::Stop,
                    () = &mut timer => Wakeup::Time,
                }
            };
            if matches!(wakeup, Wakeup::Revoked) {
                // Before the keys are looked up, so that no revocation is missed.
                revoked.set(next_revocation(self.endpoint.services.admission.keys.revocations()));
            }
            if let Err(end) = self.wake(wakeup).await {
                self.end_after_answers(end)?;
            }
        }
    }

    async fn wake(&mut self, wakeup: Wakeup) -> Result<(), SocketEnd> {
        match wakeup {
            Wakeup::Stop => return Err(SocketEnd::Stopping),
            Wakeup::Revoked => self.conversation.check_keys(Instant::now()),
            Wakeup::Decided(decided) => {
                self.conversation.answer(&decided);
                // One write takes the answers to all events that became durable together.
                while let Some(decided) = self.conversation.pending.next_known() {
                    self.conversation.answer(&decided);
                }
            }
            Wakeup::Change(packet) => {
                self.conversation.outgoing.push(packet);
                // One write takes the changes that are there already.
                let Conversation { connections, outgoing, .. } = &mut self.conversation;
                while !outgoing.is_full()
                    && let Some(packet) = next_change(connections).now_or_never()
                {
                    outgoing.push(packet);
                }
            }
            Wakeup::Request(request) => self.receive_request(request),
            Wakeup::Message(message) => self.receive_message(message)?,
            Wakeup::ProbeMessage(message) => self.receive_probe_message(&message).await,
            Wakeup::Time => self.receive_time(Instant::now())?,
        }
        Ok(())
    }

    /// Ends the session when the events that were received before are admitted, also if nobody gets the answers.
    fn end_after_answers(&mut self, end: SocketEnd) -> Result<(), SocketEnd> {
        if end == SocketEnd::NoAnswerToPing {
            return Err(end);
        }
        self.clock.end(end);
        Ok(())
    }

    /// Processes what was received, and sends what can be sent.
    async fn work(&mut self) -> Result<(), SocketEnd> {
        if let Err(end) = self.process_post() {
            self.end_after_answers(end)?;
        }
        self.conversation.disconnect_ending();
        self.clock.sign_in(self.conversation.is_connected(), Instant::now());
        if let Some(listed) = &self.listed {
            listed.describe(self.conversation.is_connected(), self.conversation.has_key());
        }
        if self.conversation.has_key() && !self.counts_with_key {
            self.counts_with_key = true;
            self.transport.set_share(self.conversation.share());
        }
        if self.probe.as_ref().is_some_and(|probe| probe.is_confirmed)
            && self.conversation.outgoing.is_empty()
        {
            // The client finishes its last poll before it moves to the WebSocket.
            self.transport.release_poll();
        }
        let Conversation { pending, outgoing, .. } = &mut self.conversation;
        // A client that polls gets its last answers together, because it may not be able to poll again.
        let keeps = self.clock.ending().is_some() && self.transport.is_polling();
        if !outgoing.is_empty() && !keeps && pending.during(self.transport.send(outgoing)).await.is_err() {
            self.end_after_answers(SocketEnd::Left)?;
        }
        match self.clock.ending() {
            Some(end) if self.conversation.pending.is_empty() => Err(end),
            _ => Ok(()),
        }
    }

    /// Processes the packets of a polling request while there is room. Answers it when their events are durable.
    fn process_post(&mut self) -> Result<(), SocketEnd> {
        let Some(mut post) = self.post.take() else { return Ok(()) };
        // A client that moves to a WebSocket fetches no answers before its request is answered.
        let is_moving = self.probe.as_ref().is_some_and(|probe| probe.is_confirmed);
        let has_room = |conversation: &Conversation| {
            conversation.has_room() && (is_moving || !conversation.outgoing.is_full())
        };
        while self.clock.ending().is_none() && post.at < post.text.len() && has_room(&self.conversation) {
            let text = Arc::clone(&post.text);
            let packet = text[post.at..].split(SEPARATOR).next().unwrap_or_default();
            post.at = (post.at + packet.len() + SEPARATOR.len_utf8()).min(text.len());
            match self.receive_text(&text, packet) {
                Ok(()) => {}
                Err(end) => {
                    if end == SocketEnd::Left {
                        // The packets behind a close do not count.
                        post.at = text.len();
                    }
                    self.post = Some(post);
                    return Err(end);
                }
            }
        }
        let is_processed = post.at == post.text.len() && self.conversation.pending.is_empty();
        if is_processed && self.clock.ending().is_none() {
            let _ = post.answer.send(true);
        } else {
            self.post = Some(post);
        }
        Ok(())
    }

    fn receive_request(&mut self, request: SessionRequest) {
        match request {
            SessionRequest::Poll(answer) => self.transport.begin_poll(answer),
            SessionRequest::Post(text, answer) => self.post = Some(Post { text, at: 0, answer }),
            SessionRequest::Upgrade(socket) => {
                // Another one at the same time is closed.
                if self.probe.is_none() && self.transport.is_polling() {
                    let until = Instant::now() + UPGRADE_DURATION_MAX;
                    self.probe = Some(Probe { socket, is_confirmed: false, until });
                }
            }
        }
    }

    fn receive_message(&mut self, message: Message) -> Result<(), SocketEnd> {
        self.clock.heard(Instant::now());
        match message {
            Message::Text(text) => self.receive_text(&text, &text),
            Message::Binary => self.conversation.receive_binary(),
            other => SocketEnd::of_message(&other).map_or(Ok(()), Err),
        }
    }

    fn receive_text(&mut self, message: &Arc<str>, packet: &str) -> Result<(), SocketEnd> {
        let now = Instant::now();
        self.clock.heard(now);
        match engine_packet::decode(packet) {
            Some(EnginePacket::Message(packet)) => self.conversation.receive(message, packet)?,
            Some(EnginePacket::Binary) => self.conversation.receive_binary()?,
            Some(EnginePacket::Close) => return Err(SocketEnd::Left),
            Some(EnginePacket::Pong) => self.clock.answered(now),
            Some(EnginePacket::Upgrade | EnginePacket::Nothing) => {}
            Some(EnginePacket::Probe) | None => {
                return Err(SocketEnd::Malformed("a packet of Engine.IO is malformed"));
            }
        }
        Ok(())
    }

    /// Follows the steps of a change to a WebSocket. A client that does not take them stays with polling.
    async fn receive_probe_message(&mut self, message: &Message) {
        let Some(mut probe) = self.probe.take() else { return };
        let packet = match message {
            Message::Text(text) => engine_packet::decode(text),
            _ => None,
        };
        match packet {
            Some(EnginePacket::Probe) if !probe.is_confirmed => {
                let sent = probe.socket.send([engine_packet::PROBE_ANSWER]);
                if self.conversation.pending.during(sent).await.is_ok() {
                    // The client finishes its requests first, which may take as long as they may otherwise.
                    let until = Instant::now() + self.endpoint.ping_interval + self.endpoint.ping_timeout;
                    self.probe = Some(Probe { is_confirmed: true, until, ..probe });
                }
            }
            Some(EnginePacket::Upgrade) if probe.is_confirmed => {
                self.transport.release_poll();
                self.transport = Transport::WebSocket(probe.socket);
                self.transport.set_share(self.conversation.share());
                self.conversation.stops_polling();
                self.listed = None;
            }
            _ => {}
        }
    }

    fn receive_time(&mut self, now: Instant) -> Result<(), SocketEnd> {
        // A part of a message shows that the client is alive, too.
        if let Some(heard_at) = self.transport.heard_at() {
            self.clock.heard(heard_at);
        }
        if self.post.is_none() && self.listed.as_ref().is_some_and(ListedSession::receives) {
            self.clock.heard(now);
        }
        if self.clock.tick(now)? {
            self.conversation.outgoing.push(engine_packet::PING.to_owned());
        }
        if self.probe.as_ref().is_some_and(|probe| now >= probe.until) {
            self.probe = None;
        }
        if self.conversation.key_deadline().is_some_and(|at| now >= at) {
            self.conversation.check_keys(now);
        }
        Ok(())
    }

    /// Returns when something has to be done even if nothing arrives.
    fn deadline(&self) -> Instant {
        let probe = self.probe.as_ref().map(|probe| probe.until);
        self.clock.deadline([probe, self.conversation.key_deadline()])
    }

    async fn finish(mut self, end: SocketEnd) {
        let refusal = match end {
            SocketEnd::TooLarge => {
                Some(Refusal::TooLarge { what: "a message", bytes_max: SOCKET_MESSAGE_BYTES_MAX })
            }
            SocketEnd::Overloaded => Some(Refusal::Overloaded),
            _ => None,
        };
        if let Some(refusal) = refusal {
            self.conversation.refuse_unread(&refusal.into());
        }
        if !matches!(end, SocketEnd::Left | SocketEnd::NoAnswerToPing) {
            self.await_poll().await;
        }
        self.listed = None;
        self.transport.close(self.conversation.outgoing, end).await;
        if let Some(post) = self.post.take() {
            // Packets that were not processed are not stored.
            let _ = post.answer.send(post.at == post.text.len());
        }
    }

    /// Waits a moment for a client between two polls, which would otherwise not get the last answers.
    async fn await_poll(&mut self) {
        let next = async {
            while !matches!(self.transport, Transport::Polling { waiting: Some(_) } | Transport::WebSocket(_))
            {
                let Some(request) = next_request(&mut self.listed).await else { return };
                if let SessionRequest::Poll(answer) = request {
                    self.transport.begin_poll(answer);
                }
            }
        };
        drop(timeout(STOP_IDLE_DURATION_MAX, next).await);
    }
}

async fn next_request(listed: &mut Option<ListedSession>) -> Option<SessionRequest> {
    match listed {
        Some(listed) => listed.requests.recv().await,
        None => std::future::pending().await,
    }
}

async fn next_probe_message(probe: &mut Option<Probe>) -> Message {
    match probe {
        Some(probe) => probe.socket.next().await,
        None => std::future::pending().await,
    }
}

//! A session: one task that owns a client's transport, its pings and deadlines, and the conversation. It ends when the
//! client leaves, breaks the protocol, stops answering, or when the server stops.

use std::sync::Arc;
use std::time::Duration;

use event::Millis;
use event::limits::{SOCKET_MESSAGE_BYTES_MAX, SOCKET_SIGN_IN_DURATION_MAX, UPGRADE_DURATION_MAX};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::conversation::Conversation;
use super::end::End;
use super::endpoint::Endpoint;
use super::engine_packet::{self, EnginePacket, SEPARATOR};
use super::pending_event::Decided;
use super::sessions::{ListedSession, SessionRequest};
use super::transport::{Probe, Transport};
use crate::admission::Refusal;
use crate::http::websocket::{Frame, Utf8Bytes, WebSocket};
use crate::http::{Handshake, OpenSocket};
use crate::sources::heartbeat::{Beat, Heartbeat};

/// What a session begins with.
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
    heartbeat: Heartbeat,
    /// When a client that is in no namespace has to leave.
    sign_in_by: Option<Instant>,
    revocations: watch::Receiver<()>,
    /// Set when the session ends as soon as the events that it has received are answered.
    ending: Option<End>,
}

/// Packets of a polling request that are not all processed yet.
struct Post {
    text: Utf8Bytes,
    /// The part that is processed.
    at: usize,
    answer: oneshot::Sender<bool>,
}

/// What wakes a session up.
enum Wakeup {
    Stop,
    Revoked,
    Decided(Decided),
    Request(SessionRequest),
    Frame(Frame),
    ProbeFrame(Frame),
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
            heartbeat: Heartbeat::start(now, endpoint.ping_interval, endpoint.ping_timeout),
            sign_in_by: Some(now + SOCKET_SIGN_IN_DURATION_MAX),
            revocations: endpoint.services.admission.keys.revocations(),
            ending: None,
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

    async fn live(&mut self) -> Result<std::convert::Infallible, End> {
        let stop = self.endpoint.services.sockets.stop().clone();
        let mut stopped = std::pin::pin!(async move { stop.wait().await });
        let mut timer = std::pin::pin!(sleep_until(self.deadline()));
        loop {
            self.work().await?;
            let deadline = self.deadline();
            if timer.deadline() != deadline {
                timer.as_mut().reset(deadline);
            }
            let may_read = self.ending.is_none() && self.conversation.has_room();
            let stopping = self.ending.is_some();
            let Self { conversation, transport, listed, probe, revocations, .. } = self;
            let wakeup = tokio::select! {
                biased;
                () = &mut stopped, if !stopping => Wakeup::Stop,
                Ok(()) = revocations.changed() => Wakeup::Revoked,
                Some(decided) = conversation.pending.next() => Wakeup::Decided(decided),
                Some(request) = next_request(listed) => Wakeup::Request(request),
                frame = transport.next_frame(), if may_read => Wakeup::Frame(frame),
                frame = next_probe_frame(probe) => Wakeup::ProbeFrame(frame),
                () = &mut timer => Wakeup::Time,
            };
            self.wake(wakeup).await?;
        }
    }

    async fn wake(&mut self, wakeup: Wakeup) -> Result<(), End> {
        match wakeup {
            Wakeup::Stop => self.ending = Some(End::Stopping),
            Wakeup::Revoked => self.conversation.disconnect_revoked(),
            Wakeup::Decided(decided) => {
                self.conversation.answer(&decided);
                // One write takes the answers to all events that became durable together.
                while let Some(decided) = self.conversation.pending.next_known() {
                    self.conversation.answer(&decided);
                }
            }
            Wakeup::Request(request) => self.receive_request(request)?,
            Wakeup::Frame(frame) => {
                if let Err(end) = self.receive_frame(frame) {
                    self.end_after_answers(end)?;
                }
            }
            Wakeup::ProbeFrame(frame) => self.receive_probe_frame(&frame).await,
            Wakeup::Time => self.receive_time(Instant::now())?,
        }
        Ok(())
    }

    /// Processes what was received, and sends what can be sent.
    async fn work(&mut self) -> Result<(), End> {
        self.process_post()?;
        self.sign_in_by = match self.sign_in_by {
            _ if self.conversation.is_connected() => None,
            None => Some(Instant::now() + SOCKET_SIGN_IN_DURATION_MAX),
            by => by,
        };
        if self.probe.as_ref().is_some_and(|probe| probe.is_confirmed) {
            // The client finishes its last poll before it moves to the WebSocket.
            if self.conversation.outgoing.is_empty() {
                self.transport.release_poll();
            }
        }
        self.transport.send(&mut self.conversation.outgoing).await.map_err(|()| End::Left)?;
        match self.ending {
            Some(end) if self.conversation.pending.is_empty() && self.post.is_none() => Err(end),
            _ => Ok(()),
        }
    }

    /// Ends the session when the events that were received before are answered, unless nobody would get the answers.
    fn end_after_answers(&mut self, end: End) -> Result<(), End> {
        if end == End::Left {
            return Err(end);
        }
        self.ending = Some(end);
        Ok(())
    }

    /// Processes the packets of a polling request while there is room. Answers it when their events are durable.
    fn process_post(&mut self) -> Result<(), End> {
        let Some(mut post) = self.post.take() else { return Ok(()) };
        while post.at < post.text.len() && self.conversation.has_room() {
            let rest = &post.text[post.at..];
            let packet = rest.split(SEPARATOR).next().unwrap_or_default();
            post.at += (packet.len() + SEPARATOR.len_utf8()).min(rest.len());
            let text = post.text.clone();
            let packet = &text[part_of(&text, packet)];
            self.receive_text(&text, packet)?;
        }
        if post.at < post.text.len() || !self.conversation.pending.is_empty() {
            self.post = Some(post);
        } else {
            let _ = post.answer.send(true);
        }
        Ok(())
    }

    fn receive_request(&mut self, request: SessionRequest) -> Result<(), End> {
        match request {
            SessionRequest::Poll(answer) => self.transport.begin_poll(answer)?,
            SessionRequest::Post(..) if self.post.is_some() => {
                return Err(End::Rejected("the client sends while an earlier request is not answered"));
            }
            SessionRequest::Post(text, answer) => self.post = Some(Post { text, at: 0, answer }),
            SessionRequest::Upgrade(socket) => {
                // Another one at the same time is closed.
                if self.probe.is_none() && self.transport.is_polling() {
                    let until = Instant::now() + UPGRADE_DURATION_MAX;
                    self.probe = Some(Probe { socket, is_confirmed: false, until });
                }
            }
        }
        Ok(())
    }

    fn receive_frame(&mut self, frame: Frame) -> Result<(), End> {
        match frame {
            Frame::Text(text) => self.receive_text(&text, &text),
            Frame::Binary(_) => {
                self.heartbeat.heard(Instant::now());
                Ok(self.conversation.receive_binary()?)
            }
            Frame::Pong => Ok(()),
            Frame::TooLarge => Err(End::TooLarge),
            Frame::Closed => Err(End::Left),
        }
    }

    fn receive_text(&mut self, message: &Utf8Bytes, packet: &str) -> Result<(), End> {
        self.heartbeat.heard(Instant::now());
        match engine_packet::decode(packet) {
            Some(EnginePacket::Message(packet)) => self.conversation.receive(message, packet)?,
            Some(EnginePacket::Binary) => self.conversation.receive_binary()?,
            Some(EnginePacket::Close) => return Err(End::Left),
            Some(EnginePacket::Pong) => self.heartbeat.answered(Instant::now()),
            Some(EnginePacket::Upgrade | EnginePacket::Nothing) => {}
            Some(EnginePacket::Probe) | None => {
                return Err(End::Rejected("a packet of Engine.IO is malformed"));
            }
        }
        Ok(())
    }

    /// Follows the steps of a change to a WebSocket. A client that does not take them stays with polling.
    async fn receive_probe_frame(&mut self, frame: &Frame) {
        let Some(mut probe) = self.probe.take() else { return };
        let packet = match frame {
            Frame::Text(text) => engine_packet::decode(text),
            _ => None,
        };
        match packet {
            Some(EnginePacket::Probe) if !probe.is_confirmed => {
                let answer = [Utf8Bytes::from_static(engine_packet::PROBE_ANSWER)];
                if probe.socket.send(answer).await.is_ok() {
                    self.probe = Some(Probe { is_confirmed: true, ..probe });
                }
            }
            Some(EnginePacket::Upgrade) if probe.is_confirmed => {
                self.transport.release_poll();
                self.transport = Transport::WebSocket(probe.socket);
                self.listed = None;
            }
            _ => {}
        }
    }

    fn receive_time(&mut self, now: Instant) -> Result<(), End> {
        match self.heartbeat.beat(now) {
            Beat::Nothing => {}
            Beat::Ping => self.conversation.outgoing.push(Utf8Bytes::from_static(engine_packet::PING)),
            Beat::Gone => return Err(End::NoAnswerToPing),
        }
        if self.sign_in_by.is_some_and(|by| now >= by) {
            return Err(End::NotSignedIn);
        }
        if self.probe.as_ref().is_some_and(|probe| now >= probe.until) {
            self.probe = None;
        }
        if self.conversation.next_expiry().is_some_and(|expires| expires <= Millis::now()) {
            self.conversation.disconnect_revoked();
        }
        Ok(())
    }

    /// Returns when something has to be done even if nothing arrives.
    fn deadline(&self) -> Instant {
        let expiry = self.conversation.next_expiry().map(|expires| {
            let left = (expires.0 - Millis::now().0).clamp(0, 24 * 3600 * 1000);
            Instant::now() + Duration::from_millis(left as u64 + 1)
        });
        let probe = self.probe.as_ref().map(|probe| probe.until);
        let others = [self.sign_in_by, probe, expiry].into_iter().flatten();
        others.fold(self.heartbeat.deadline(), Instant::min)
    }

    async fn finish(mut self, end: End) {
        if let Some(post) = self.post.take() {
            let _ = post.answer.send(false);
        }
        if end == End::TooLarge {
            let error = Refusal::TooLarge { what: "a message", bytes_max: SOCKET_MESSAGE_BYTES_MAX };
            self.conversation.refuse_unread(&error.into());
        }
        // A client that polls could not ask for it afterwards.
        self.listed = None;
        self.transport.close(self.conversation.outgoing, end.close_reason(), end.as_str()).await;
    }
}

fn part_of(text: &str, part: &str) -> std::ops::Range<usize> {
    let begin = part.as_ptr() as usize - text.as_ptr() as usize;
    begin..begin + part.len()
}

async fn next_request(listed: &mut Option<ListedSession>) -> Option<SessionRequest> {
    match listed {
        Some(listed) => listed.requests.recv().await,
        None => std::future::pending().await,
    }
}

async fn next_probe_frame(probe: &mut Option<Probe>) -> Frame {
    match probe {
        Some(probe) => probe.socket.next().await,
        None => std::future::pending().await,
    }
}

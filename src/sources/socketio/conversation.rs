//! What a client and the server say to each other in Socket.IO: namespaces that the client connects to, events that it
//! sends, and their answers. It knows nothing of transports: packets come in as texts, and go out through `outgoing`.

use std::sync::Arc;

use event::LogSample;
use event::limits::SOCKET_SIGN_INS_MAX;
use serde_json::json;
use tokio::time::Instant;

use super::connection::Connection;
use super::endpoint::Endpoint;
use super::live_event;
use super::outgoing::Outgoing;
use super::packet::{self, Arguments, Packet, PacketKind};
use super::pending_event::{Decided, PendingEvent, Sender, error_content};
use crate::admission::Refusal;
use crate::http::{ApiError, Handshake, OpenSocket, Share};
use crate::sources::pending::Pending;
use crate::sources::socket_end::SocketEnd;

pub struct Conversation {
    endpoint: Arc<Endpoint>,
    handshake: Arc<Handshake>,
    place: OpenSocket,
    pub connections: Vec<Connection>,
    /// The name of the last connection, for the log.
    client: Option<Arc<str>>,
    accepted: u64,
    refused: u64,
    /// The client has tried to connect to a namespace.
    has_tried: bool,
    sign_ins_refused: u32,
    /// Locked by each event until it has its place in the log's order.
    order: Arc<tokio::sync::Mutex<()>>,
    pub pending: Pending<Decided>,
    /// The event whose binary attachments are still to come.
    attachments: Option<Attachments>,
    pub outgoing: Outgoing,
}

struct Attachments {
    missing: usize,
    /// The event to refuse when all have come; `None` if nobody waits for an answer.
    refused: Option<Decided>,
}

impl Conversation {
    pub fn new(endpoint: &Arc<Endpoint>, handshake: &Arc<Handshake>, place: OpenSocket) -> Self {
        Self {
            endpoint: Arc::clone(endpoint),
            handshake: Arc::clone(handshake),
            place,
            connections: Vec::new(),
            client: None,
            accepted: 0,
            refused: 0,
            has_tried: false,
            sign_ins_refused: 0,
            order: Arc::default(),
            pending: Pending::default(),
            attachments: None,
            outgoing: Outgoing::default(),
        }
    }

    /// Returns whether the client is connected to a namespace.
    pub fn is_connected(&self) -> bool {
        !self.connections.is_empty()
    }

    /// Returns whether the client has shown a key in one of its namespaces.
    pub fn has_key(&self) -> bool {
        self.connections.iter().any(|connection| connection.key_watch.counted_as().is_some())
    }

    /// Returns the share in which the client's messages count.
    pub fn share(&self) -> Share {
        let peer = self.handshake.peer;
        if self.has_key() { Share::keyed(peer) } else { Share::open(peer) }
    }

    /// Returns whether the events that are pending leave room for another one.
    pub fn has_room(&self) -> bool {
        self.pending.has_room()
    }

    /// Notes that the session does not poll any more.
    pub fn stops_polling(&mut self) {
        self.place.stops_polling();
    }

    /// Takes a packet of the client, which is a part of `message`.
    pub fn receive(&mut self, message: &Arc<str>, packet: &str) -> Result<(), SocketEnd> {
        if self.attachments.is_some() {
            return Err(SocketEnd::Malformed("a packet has fewer binary attachments than it announced"));
        }
        let packet = Packet::decode(packet).ok_or(SocketEnd::Malformed("a packet is malformed"))?;
        match packet.kind {
            PacketKind::Connect => self.connect(packet)?,
            PacketKind::Disconnect => {
                self.connections.retain(|connection| connection.namespace.name != packet.namespace);
            }
            PacketKind::Event => self.receive_event(message, packet)?,
            PacketKind::Ack => self.await_attachments(packet.attachments, None),
        }
        Ok(())
    }

    /// Takes a binary message, which belongs to the packet before it.
    pub fn receive_binary(&mut self) -> Result<(), SocketEnd> {
        let Some(Attachments { missing, refused }) = self.attachments.take() else {
            return Err(SocketEnd::Malformed("a binary message belongs to no packet"));
        };
        self.await_attachments(missing - 1, refused);
        Ok(())
    }

    fn await_attachments(&mut self, missing: usize, refused: Option<Decided>) {
        if missing > 0 {
            self.attachments = Some(Attachments { missing, refused });
        } else if let Some(refused) = refused {
            // The answers to the events before it come first.
            self.pending.push(0, std::future::ready(refused));
        }
    }

    fn connect(&mut self, packet: Packet<'_>) -> Result<(), SocketEnd> {
        let Some(namespace) = self.endpoint.namespaces.get(packet.namespace).cloned() else {
            let message = json!({ "message": "Invalid namespace" }).to_string();
            self.outgoing.push(packet::encode('4', packet.namespace, None, &message));
            return self.count_refused_sign_in();
        };
        self.connections.retain(|connection| connection.namespace.name != namespace.name);
        let connection = self
            .count_sign_in()
            .and_then(|()| Connection::open(&self.endpoint, &self.handshake, &namespace, packet.data));
        match connection {
            Ok(connection) => {
                self.place.signed_in();
                self.sign_ins_refused = 0;
                let about = json!({ "sid": *connection.client }).to_string();
                self.outgoing.push(packet::encode('0', &namespace.name, None, &about));
                for source in &namespace.sources {
                    if let (Some(event), Some(welcome)) = (&source.welcome_event, &source.welcome) {
                        let event = packet::encode_event(&namespace.name, event.as_str(), &welcome.fill());
                        self.outgoing.push(event);
                    }
                }
                self.note_connection(&connection);
                self.connections.push(connection);
                Ok(())
            }
            // A client does not connect again after a refusal. It does if its session ends.
            Err(error) if error.retry_after_seconds().is_some() => {
                error.count();
                Err(SocketEnd::TryAgain)
            }
            Err(error) => {
                error.count();
                let message = namespace.sources[0].words(&error);
                let refusal = json!({ "message": message, "data": { "code": error.code() } }).to_string();
                self.outgoing.push(packet::encode('4', &namespace.name, None, &refusal));
                self.count_refused_sign_in()
            }
        }
    }

    /// Counts an attempt as a request of the address. The first one was counted when the session was opened: a client
    /// that needed two would hardly get both while many wait.
    fn count_sign_in(&mut self) -> Result<(), ApiError> {
        if std::mem::replace(&mut self.has_tried, true) {
            self.endpoint.services.rates.count_address(self.handshake.peer.0)?;
        }
        Ok(())
    }

    fn note_connection(&mut self, connection: &Connection) {
        static LINES: LogSample = LogSample::new();
        let (client, address) = (&*connection.client, self.handshake.peer.0);
        if let Some(left_out) = LINES.next() {
            let namespace = &connection.namespace.name;
            tracing::info!(client, %address, namespace, left_out, "client connected");
        }
        self.client = Some(Arc::clone(&connection.client));
    }

    /// Logs that the client is gone.
    pub fn note_end(&self, end: SocketEnd) {
        static LINES: LogSample = LogSample::new();
        let (reason, address) = (end.as_str(), self.handshake.peer.0);
        let Some(client) = self.client.as_deref() else {
            tracing::debug!(%address, reason, "session ended before the client connected to a namespace");
            return;
        };
        if let Some(left_out) = LINES.next() {
            let Self { accepted, refused, .. } = self;
            tracing::info!(client, %address, reason, accepted, refused, left_out, "client gone");
        }
    }

    fn count_refused_sign_in(&mut self) -> Result<(), SocketEnd> {
        self.sign_ins_refused += 1;
        if self.sign_ins_refused < SOCKET_SIGN_INS_MAX {
            Ok(())
        } else {
            Err(SocketEnd::Refused("too many refused attempts to connect"))
        }
    }

    fn receive_event(&mut self, message: &Arc<str>, packet: Packet<'_>) -> Result<(), SocketEnd> {
        let arguments = Arguments::parse(packet.data).ok_or(SocketEnd::Malformed("an event has no name"))?;
        let connection = self.connections.iter_mut().find(|one| one.namespace.name == packet.namespace);
        let Some(connection) = connection else {
            // A client may send before it learns that it was disconnected. It gets no answer.
            self.await_attachments(packet.attachments, None);
            return Ok(());
        };
        let source = connection.namespace.source_of(&arguments.name);
        if source.is_none() && live_event::is_live_event(&arguments.name) && packet.attachments == 0 {
            let answer =
                live_event::answer(connection, &self.endpoint, &self.handshake, &arguments, packet.ack);
            answer.into_iter().for_each(|answer| self.outgoing.push(answer));
            return Ok(());
        }
        match connection.offered(&self.endpoint, &self.handshake, source, &packet, &arguments) {
            Ok(offered) => {
                let sender = Sender {
                    endpoint: &self.endpoint,
                    handshake: &self.handshake,
                    namespace: &connection.namespace,
                    client: &connection.client,
                    order: &self.order,
                };
                let event = PendingEvent::new(&sender, &offered, packet.ack, message);
                self.pending.push(offered.text.len(), event.decided());
            }
            Err(error) => {
                let client = Arc::clone(&connection.client);
                let refused = Decided { client, source, ack: packet.ack, outcome: Err(error) };
                self.await_attachments(packet.attachments, Some(refused));
            }
        }
        Ok(())
    }

    /// Puts the answer to an event among the outgoing packets.
    pub fn answer(&mut self, decided: &Decided) {
        match &decided.outcome {
            Ok(_) => self.accepted += 1,
            Err(error) => {
                self.refused += 1;
                error.count();
                note_refusal(&decided.client, error);
            }
        }
        // A client that has left its namespace gets no answer.
        if let Some(connection) = self.connections.iter().find(|one| one.client == decided.client) {
            decided.answers(&connection.namespace).for_each(|packet| self.outgoing.push(packet));
        }
    }

    /// Tells the client that one of its messages was not read.
    pub fn refuse_unread(&mut self, error: &ApiError) {
        error.count();
        for connection in &self.connections {
            let (namespace, source) = (&connection.namespace.name, &connection.namespace.sources[0]);
            let content = error_content(source, error);
            let event = packet::encode_event(namespace, source.error_event.as_str(), &content);
            self.outgoing.push(event);
        }
    }

    /// Finds the namespaces whose key has ended.
    pub fn check_keys(&mut self, now: Instant) {
        let keys = &self.endpoint.services.admission.keys;
        for connection in &mut self.connections {
            connection.is_ending |= !connection.key_watch.holds(keys);
            connection.key_watch.checked(now);
        }
    }

    /// Disconnects the client from these namespaces, once its events there are answered.
    pub fn disconnect_ending(&mut self) {
        if !self.pending.is_empty() {
            return;
        }
        self.connections.retain(|connection| {
            if connection.is_ending {
                self.outgoing.push(packet::encode('1', &connection.namespace.name, None, ""));
            }
            !connection.is_ending
        });
    }

    /// Returns when a key has to be checked even if nothing arrives.
    pub fn key_deadline(&self) -> Option<Instant> {
        self.connections.iter().filter_map(|connection| connection.key_watch.deadline()).min()
    }
}

/// Logs that an event was refused. The line has the names of its wrong fields, and none of its values.
fn note_refusal(client: &str, error: &ApiError) {
    static LINES: LogSample = LogSample::new();
    let Some(left_out) = LINES.next() else { return };
    let fields = match error {
        ApiError::Refused(Refusal::Invalid(faults)) => {
            faults.iter().map(|fault| fault.field.as_str()).collect()
        }
        _ => Vec::new(),
    };
    tracing::info!(client, code = error.code(), fields = fields.join(" "), left_out, "event refused");
}

//! What a client and the server say to each other in Socket.IO: namespaces that the client connects to, events that it
//! sends, and their answers. It knows nothing of transports: packets come in as texts, and go out through `outgoing`.

use std::sync::Arc;

use event::limits::SOCKET_SIGN_INS_MAX;
use event::{LogSample, Millis};
use serde_json::json;

use super::connection::Connection;
use super::end::{End, Rejected};
use super::endpoint::Endpoint;
use super::outgoing::Outgoing;
use super::packet::{self, Arguments, Packet, PacketKind};
use super::pending_event::{Decided, PendingEvent, Sender, error_content};
use crate::admission::Refusal;
use crate::http::websocket::Utf8Bytes;
use crate::http::{ApiError, Handshake, OpenSocket};
use crate::sources::pending::Pending;

pub struct Conversation {
    endpoint: Arc<Endpoint>,
    handshake: Arc<Handshake>,
    place: OpenSocket,
    connections: Vec<Connection>,
    /// The name of the last connection, for the log.
    client: Option<Arc<str>>,
    accepted: u64,
    refused: u64,
    sign_ins_refused: u32,
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
            sign_ins_refused: 0,
            pending: Pending::default(),
            attachments: None,
            outgoing: Outgoing::default(),
        }
    }

    /// Returns whether the client is connected to a namespace.
    pub fn is_connected(&self) -> bool {
        !self.connections.is_empty()
    }

    /// Returns whether another packet may be read now.
    pub fn has_room(&self) -> bool {
        self.pending.has_room() && !self.outgoing.is_full()
    }

    /// Takes a packet of the client, which is a part of `message`.
    pub fn receive(&mut self, message: &Utf8Bytes, packet: &str) -> Result<(), Rejected> {
        if self.attachments.is_some() {
            return Err(Rejected("a packet has fewer binary attachments than it announced"));
        }
        let packet = Packet::decode(packet).ok_or(Rejected("a packet is malformed"))?;
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
    pub fn receive_binary(&mut self) -> Result<(), Rejected> {
        let Some(Attachments { missing, refused }) = self.attachments.take() else {
            return Err(Rejected("a binary message belongs to no packet"));
        };
        self.await_attachments(missing - 1, refused);
        Ok(())
    }

    fn await_attachments(&mut self, missing: usize, refused: Option<Decided>) {
        if missing > 0 {
            self.attachments = Some(Attachments { missing, refused });
        } else if let Some(refused) = refused {
            // It has its turn after the events before it.
            self.pending.push(0, std::future::ready(refused));
        }
    }

    fn connect(&mut self, packet: Packet<'_>) -> Result<(), Rejected> {
        let Some(namespace) = self.endpoint.namespaces.get(packet.namespace).cloned() else {
            let message = json!({ "message": "Invalid namespace" }).to_string();
            self.outgoing.push(packet::encode('4', packet.namespace, None, &message));
            return self.count_refused_sign_in();
        };
        self.connections.retain(|connection| connection.namespace.name != namespace.name);
        match Connection::open(&self.endpoint, &self.handshake, &namespace, packet.data) {
            Ok(connection) => {
                self.place.signed_in();
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
            Err(error) => {
                error.count();
                let message = namespace.sources[0].words(&error);
                let refusal = json!({ "message": message, "data": { "code": error.code() } }).to_string();
                self.outgoing.push(packet::encode('4', &namespace.name, None, &refusal));
                self.count_refused_sign_in()
            }
        }
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

    /// Logs that a client is gone.
    pub fn note_end(&self, end: End) {
        static LINES: LogSample = LogSample::new();
        let (reason, address) = (end.as_str(), self.handshake.peer.0);
        match &self.client {
            None => {
                tracing::debug!(%address, reason, "session ended before the client connected to a namespace");
            }
            Some(client) => {
                if let Some(left_out) = LINES.next() {
                    let Self { accepted, refused, .. } = self;
                    tracing::info!(client = &**client, %address, reason, accepted, refused, left_out, "client gone");
                }
            }
        }
    }

    fn count_refused_sign_in(&mut self) -> Result<(), Rejected> {
        self.sign_ins_refused += 1;
        if self.sign_ins_refused < SOCKET_SIGN_INS_MAX {
            Ok(())
        } else {
            Err(Rejected("too many refused attempts to connect"))
        }
    }

    fn receive_event(&mut self, message: &Utf8Bytes, packet: Packet<'_>) -> Result<(), Rejected> {
        let arguments = Arguments::parse(packet.data).ok_or(Rejected("an event has no name"))?;
        let connection = self.connections.iter().find(|one| one.namespace.name == packet.namespace);
        let Some(connection) = connection else {
            // A client may send before it learns that it was disconnected. It gets no answer.
            self.await_attachments(packet.attachments, None);
            return Ok(());
        };
        let source = connection.namespace.source_of(&arguments.name);
        match connection.offered(&self.endpoint, &self.handshake, source, &packet, &arguments) {
            Ok(offered) => {
                let sender = Sender {
                    endpoint: &self.endpoint,
                    handshake: &self.handshake,
                    namespace: &connection.namespace,
                    client: &connection.client,
                };
                let event = PendingEvent::new(&sender, &offered, packet.ack, message);
                self.pending.push(message.len(), event.decided());
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

    /// Disconnects the client from the namespaces for which its key does not count any more.
    pub fn disconnect_revoked(&mut self) {
        self.connections.retain(|connection| {
            let holds = connection.key_holds(&self.endpoint);
            if !holds {
                tracing::debug!(client = &*connection.client, "client disconnected: its key has ended");
                self.outgoing.push(packet::encode('1', &connection.namespace.name, None, ""));
            }
            holds
        });
    }

    /// Returns the time at which the next of the client's keys expires.
    pub fn next_expiry(&self) -> Option<Millis> {
        self.connections.iter().filter_map(|connection| connection.held_key?.expires).min()
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

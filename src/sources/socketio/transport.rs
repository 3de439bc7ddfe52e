//! How packets reach a client: as answers to its polling requests, or over a WebSocket.

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::engine_packet;
use super::outgoing::Outgoing;
use crate::http::Share;
use crate::http::websocket::{Message, WebSocket};
use crate::sources::socket_end::SocketEnd;

pub enum Transport {
    Polling {
        /// The polling request that waits for packets.
        waiting: Option<oneshot::Sender<Option<String>>>,
    },
    WebSocket(Box<WebSocket>),
}

/// A WebSocket that will replace polling.
pub struct Probe {
    pub socket: Box<WebSocket>,
    /// The client has sent its first packet there, and got the answer.
    pub is_confirmed: bool,
    /// The deadline of the change.
    pub until: Instant,
}

impl Transport {
    pub fn is_polling(&self) -> bool {
        matches!(self, Self::Polling { .. })
    }

    /// Counts the memory of messages in another share.
    pub fn set_share(&mut self, share: Share) {
        if let Self::WebSocket(socket) = self {
            socket.set_share(share);
        }
    }

    /// Waits for a message of a WebSocket. The messages of a client that polls come as requests.
    pub async fn next_message(&mut self) -> Message {
        match self {
            Self::Polling { .. } => std::future::pending().await,
            Self::WebSocket(socket) => socket.next().await,
        }
    }

    /// Returns when the client last sent something over its WebSocket.
    pub fn heard_at(&self) -> Option<Instant> {
        match self {
            Self::Polling { .. } => None,
            Self::WebSocket(socket) => Some(socket.heard_at()),
        }
    }

    /// Notes a polling request. It replaces an earlier one, whose client may have given up.
    pub fn begin_poll(&mut self, answer: oneshot::Sender<Option<String>>) {
        self.release_poll();
        if let Self::Polling { waiting } = self {
            *waiting = Some(answer);
        }
    }

    /// Ends the polling request that waits, without a packet for the client.
    pub fn release_poll(&mut self) {
        if let Self::Polling { waiting } = self
            && let Some(waiting) = waiting.take()
        {
            drop(waiting.send(Some(engine_packet::NOOP.to_owned())));
        }
    }

    /// Sends what waits. A client that polls gets it with its next request.
    pub async fn send(&mut self, outgoing: &mut Outgoing) -> Result<(), ()> {
        if outgoing.is_empty() {
            return Ok(());
        }
        match self {
            Self::WebSocket(socket) => socket.send(outgoing.take()).await,
            Self::Polling { waiting } => {
                if let Some(answer) = waiting.take()
                    && let Err(Some(payload)) = answer.send(Some(outgoing.take_payload()))
                {
                    // Nobody waits for it any more.
                    outgoing.put_back(&payload);
                }
                Ok(())
            }
        }
    }

    /// Sends what waits, and ends the connection.
    pub async fn close(self, mut outgoing: Outgoing, end: SocketEnd) {
        match self {
            Self::Polling { waiting } => {
                outgoing.push(engine_packet::CLOSE.to_owned());
                if let Some(answer) = waiting {
                    drop(answer.send(Some(outgoing.take_payload())));
                }
            }
            Self::WebSocket(mut socket) => {
                if outgoing.is_empty() || socket.send(outgoing.take()).await.is_ok() {
                    socket.close(end.close_reason(), end.as_str()).await;
                }
            }
        }
    }
}

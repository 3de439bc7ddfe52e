//! How packets reach a client: as answers to its polling requests, or over a WebSocket.

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::end::End;
use super::engine_packet;
use super::outgoing::Outgoing;
use crate::http::websocket::{CloseReason, Frame, WebSocket};

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
    /// When the client has to be done.
    pub until: Instant,
}

impl Transport {
    pub fn is_polling(&self) -> bool {
        matches!(self, Self::Polling { .. })
    }

    /// Waits for a message. One that polls sends none here.
    pub async fn next_frame(&mut self) -> Frame {
        match self {
            Self::Polling { .. } => std::future::pending().await,
            Self::WebSocket(socket) => socket.next().await,
        }
    }

    /// Notes a polling request. Fails if another one waits already.
    pub fn begin_poll(&mut self, answer: oneshot::Sender<Option<String>>) -> Result<(), End> {
        match self {
            Self::Polling { waiting } if waiting.as_ref().is_none_or(oneshot::Sender::is_closed) => {
                *waiting = Some(answer);
                Ok(())
            }
            Self::Polling { .. } => Err(End::Rejected("the client polls while it polls already")),
            // A request that was on its way when the client moved to the WebSocket.
            Self::WebSocket(_) => {
                drop(answer.send(Some(engine_packet::NOOP.to_owned())));
                Ok(())
            }
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
                if let Some(answer) = waiting.take_if(|waiting| !waiting.is_closed()) {
                    drop(answer.send(Some(outgoing.take_payload())));
                }
                Ok(())
            }
        }
    }

    /// Sends what waits, and ends the connection.
    pub async fn close(self, mut outgoing: Outgoing, reason: CloseReason, text: &str) {
        match self {
            Self::Polling { waiting } => {
                outgoing.push(engine_packet::CLOSE.to_owned());
                if let Some(answer) = waiting {
                    drop(answer.send(Some(outgoing.take_payload())));
                }
            }
            Self::WebSocket(mut socket) => {
                if outgoing.is_empty() || socket.send(outgoing.take()).await.is_ok() {
                    socket.close(reason, text).await;
                }
            }
        }
    }
}

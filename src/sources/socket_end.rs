//! The reasons for which a connection that stays open ends.

use crate::http::websocket::{CloseReason, Message};

/// Why a connection ends. The texts say it to the client, and to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketEnd {
    /// The client left, or its connection broke.
    Left,
    NoAnswerToPing,
    /// The client broke the protocol.
    Malformed(&'static str),
    /// The client may not stay.
    Refused(&'static str),
    TooLarge,
    /// There is no memory for what the client sends.
    Overloaded,
    /// The client cannot be let in now.
    TryAgain,
    Stopping,
}

impl SocketEnd {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Left => "the client left",
            Self::NoAnswerToPing => "the client did not answer a ping",
            Self::Malformed(reason) | Self::Refused(reason) => reason,
            Self::TooLarge => "a message is too large",
            Self::Overloaded => "the server is overloaded; connect again later",
            Self::TryAgain => "the server cannot let this client in now; connect again later",
            Self::Stopping => "the server is stopping",
        }
    }

    pub fn close_reason(self) -> CloseReason {
        match self {
            Self::Left | Self::NoAnswerToPing => CloseReason::Normal,
            Self::Malformed(_) => CloseReason::Malformed,
            Self::Refused(_) => CloseReason::Refused,
            Self::TooLarge => CloseReason::TooLarge,
            Self::Overloaded | Self::TryAgain => CloseReason::Overloaded,
            Self::Stopping => CloseReason::Stopping,
        }
    }

    /// Returns the end that a message of a WebSocket means; `None` if the connection goes on.
    pub fn of_message(message: &Message) -> Option<Self> {
        match message {
            Message::Text(_) | Message::Binary | Message::Pong => None,
            Message::Closed => Some(Self::Left),
            Message::Malformed => Some(Self::Malformed("a frame is malformed")),
            Message::TooLarge => Some(Self::TooLarge),
            Message::NoMemory => Some(Self::Overloaded),
        }
    }
}

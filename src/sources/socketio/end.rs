//! Why a session ends.

use crate::http::websocket::CloseReason;

/// The client broke the protocol, or may not stay. The text says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected(pub &'static str);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client left, or its connection broke.
    Left,
    Rejected(&'static str),
    TooLarge,
    NoAnswerToPing,
    NotSignedIn,
    Stopping,
}

impl From<Rejected> for End {
    fn from(Rejected(reason): Rejected) -> Self {
        Self::Rejected(reason)
    }
}

impl End {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Left => "the client left",
            Self::Rejected(reason) => reason,
            Self::TooLarge => "a message is too large",
            Self::NoAnswerToPing => "the client did not answer a ping",
            Self::NotSignedIn => "the client did not connect to a namespace in time",
            Self::Stopping => "the server is stopping",
        }
    }

    pub fn close_reason(self) -> CloseReason {
        match self {
            Self::Left | Self::NoAnswerToPing => CloseReason::Normal,
            Self::Rejected(_) => CloseReason::Protocol,
            Self::TooLarge => CloseReason::TooLarge,
            Self::NotSignedIn => CloseReason::Refused,
            Self::Stopping => CloseReason::Stopping,
        }
    }
}

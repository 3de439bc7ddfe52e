//! The HTTP requests of Engine.IO: their query, and the errors that its clients know by number.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportKind {
    Polling,
    WebSocket,
}

/// The query of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineQuery<'a> {
    pub transport: TransportKind,
    /// The session; `None` for a request that opens one.
    pub session: Option<&'a str>,
}

/// A request that does not fit the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineError {
    UnknownTransport,
    UnknownSession,
    /// A session is opened with GET.
    BadMethod,
    BadRequest,
    UnsupportedVersion,
}

/// The version of Engine.IO that clients of Socket.IO 3 and 4 speak.
const VERSION: &str = "4";

impl<'a> EngineQuery<'a> {
    pub fn parse(query: &'a str) -> Result<Self, EngineError> {
        let value = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(known, _)| *known == name).map(|(_, value)| value)
        };
        let transport = match value("transport") {
            Some("polling") => TransportKind::Polling,
            Some("websocket") => TransportKind::WebSocket,
            _ => return Err(EngineError::UnknownTransport),
        };
        if value("EIO").is_some_and(|version| version != VERSION) {
            return Err(EngineError::UnsupportedVersion);
        }
        Ok(Self { transport, session: value("sid").filter(|session| !session.is_empty()) })
    }
}

impl EngineError {
    fn number_and_words(self) -> (u8, &'static str) {
        match self {
            Self::UnknownTransport => (0, "Transport unknown"),
            Self::UnknownSession => (1, "Session ID unknown"),
            Self::BadMethod => (2, "Bad handshake method"),
            Self::BadRequest => (3, "Bad request"),
            Self::UnsupportedVersion => (5, "Unsupported protocol version"),
        }
    }
}

impl IntoResponse for EngineError {
    fn into_response(self) -> Response {
        let (code, message) = self.number_and_words();
        (StatusCode::BAD_REQUEST, axum::Json(json!({ "code": code, "message": message }))).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_the_transport_and_the_session() {
        use TransportKind::{Polling, WebSocket};
        for (query, transport, session) in [
            ("EIO=4&transport=polling&t=abc", Polling, None),
            ("EIO=4&transport=polling&t=abc&sid=s-1_", Polling, Some("s-1_")),
            ("transport=websocket&EIO=4&sid=", WebSocket, None),
            ("transport=websocket&sid=x", WebSocket, Some("x")),
        ] {
            assert_eq!(EngineQuery::parse(query), Ok(EngineQuery { transport, session }), "{query}");
        }
        assert_eq!(EngineQuery::parse("EIO=4"), Err(EngineError::UnknownTransport));
        assert_eq!(EngineQuery::parse("EIO=4&transport=webtransport"), Err(EngineError::UnknownTransport));
        assert_eq!(EngineQuery::parse("EIO=3&transport=polling"), Err(EngineError::UnsupportedVersion));
    }
}

//! How a client of a WebSocket shows its key, and what it may do then. The key is in a header, it is the second
//! subprotocol, or it is in the first frame.

use std::sync::Arc;

use axum::http::{HeaderMap, header};
use serde::Deserialize;

use super::frame::Intake;
use crate::admission::{Credentials, HeldKey, Key, Scope};
use crate::http::{ApiError, credentials, literal_key};
use crate::sources::SocketServices;
use crate::sources::watching::Watching;

/// What a WebSocket is for.
#[derive(Clone)]
pub enum Purpose {
    /// Its frames bring events. Its client may watch changes besides.
    Send(Arc<Intake>),
    /// Its client only watches changes.
    Watch,
}

/// A client that has shown who it is.
pub struct SignIn {
    /// The key with which events are admitted; `None` if the client only watches.
    pub key: Option<Arc<Key>>,
    pub held: Option<HeldKey>,
    pub watching: Watching,
}

impl SignIn {
    /// Fails if a client with these credentials may not use the WebSocket for its purpose. `open` is set if it needs no
    /// key.
    pub fn of(
        services: &SocketServices,
        purpose: &Purpose,
        presented: Credentials<'_>,
        open: bool,
    ) -> Result<Self, ApiError> {
        let (admission, keys) = (&services.admission, &services.admission.keys);
        let watching = Watching::new(&services.live, keys, presented);
        match purpose {
            Purpose::Send(intake) => {
                let stream = &intake.stream;
                let (key, held) = keys.authorize_connection(presented, Scope::Send, Some(stream), open)?;
                admission.fields(stream)?;
                Ok(Self { key: Some(key), held, watching })
            }
            Purpose::Watch => {
                let held = watching.reader()?.held().copied();
                Ok(Self { key: None, held, watching })
            }
        }
    }
}

/// The first subprotocol of a client that shows its key as the second one: `new WebSocket(url, ["millrace", key])`.
pub const SUBPROTOCOL: &str = "millrace";

/// The first frame of a client that has not shown a key yet: `{"auth":{"token":"mr_..."}}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FirstFrame {
    auth: Auth,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Auth {
    token: String,
}

/// Returns whether the client offers our subprotocol.
pub fn offers_subprotocol(headers: &HeaderMap) -> bool {
    subprotocols(headers).any(|offered| offered == SUBPROTOCOL)
}

/// Returns the key that a request for a WebSocket shows.
pub fn of_request(headers: &HeaderMap) -> Credentials<'_> {
    // A proxy may use the header for itself.
    match subprotocols(headers).skip_while(|offered| *offered != SUBPROTOCOL).nth(1) {
        Some(key) => Credentials { literals: [Some(key), None], unreadable: false },
        None => credentials(headers),
    }
}

/// Returns the key in a first frame; `None` if the frame is something else.
pub fn of_first_frame(frame: &str) -> Option<String> {
    let frame: FirstFrame = serde_json::from_str(frame).ok()?;
    literal_key(&frame.auth.token).map(str::to_owned)
}

fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
    lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_from_a_header_a_subprotocol_or_the_first_frame() {
        let of = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().expect("a value"));
            of_request(&headers).literals[0].map(str::to_owned)
        };
        assert_eq!(of("authorization", "Bearer k"), Some("k".to_owned()));
        assert_eq!(of("sec-websocket-protocol", "millrace, k"), Some("k".to_owned()));
        assert_eq!(of("sec-websocket-protocol", "other, millrace, k, more"), Some("k".to_owned()));
        assert_eq!(of("sec-websocket-protocol", "millrace"), None);
        assert_eq!(of("sec-websocket-protocol", "other, k"), None);
        assert_eq!(of_first_frame(r#"{"auth":{"token":" k "}}"#), Some("k".to_owned()));
        for frame in
            [r#"{"auth":{}}"#, r#"{"auth":{"token":""}}"#, r#"{"auth":{"token":"k"},"a":1}"#, "{}", "x"]
        {
            assert_eq!(of_first_frame(frame), None, "{frame}");
        }
    }
}

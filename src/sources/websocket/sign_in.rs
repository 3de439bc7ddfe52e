//! How a client of a WebSocket shows its key: in a header, as the second of its subprotocols, or in its first frame.

use axum::http::{HeaderMap, header};
use serde::Deserialize;

use crate::admission::Credentials;
use crate::http::{credentials, literal_key};

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

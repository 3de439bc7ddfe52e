//! The request for a WebSocket, and its answer.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::upgrade::OnUpgrade;
use sha1::{Digest, Sha1};

use super::WebSocket;
use crate::http::{ApiError, Share};

/// The text that RFC 6455 appends to a client's key.
const ACCEPT_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// A key is 16 random bytes.
const KEY_BYTES: usize = 16;

/// A valid request for a WebSocket.
pub struct Upgrade {
    connection: OnUpgrade,
    accept: HeaderValue,
}

/// Returns whether the request asks for a WebSocket.
pub fn wants_websocket(headers: &HeaderMap) -> bool {
    has_token(headers, header::UPGRADE, "websocket")
}

fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|found| found.trim().eq_ignore_ascii_case(token))
}

impl Upgrade {
    /// Checks the request. Takes the connection out of it, so that the answer can switch the protocol.
    pub fn of<B>(request: &mut Request<B>) -> Result<Self, ApiError> {
        let invalid =
            |name: &'static str, reason: &str| ApiError::Parameter { name, reason: reason.to_owned() };
        let headers = request.headers();
        if request.method() != Method::GET {
            return Err(ApiError::MethodNotAllowed);
        }
        if !wants_websocket(headers) || !has_token(headers, header::CONNECTION, "upgrade") {
            return Err(invalid("Upgrade", "this path is for WebSockets; connect with a WebSocket client"));
        }
        if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            return Err(invalid("Sec-WebSocket-Version", "must be 13"));
        }
        let key = headers.get(header::SEC_WEBSOCKET_KEY).map_or(&b""[..], HeaderValue::as_bytes);
        if STANDARD.decode(key).map_or(0, |bytes| bytes.len()) != KEY_BYTES {
            return Err(invalid("Sec-WebSocket-Key", "must be 16 bytes in Base64"));
        }
        let accept = STANDARD.encode(Sha1::new().chain_update(key).chain_update(ACCEPT_SUFFIX).finalize());
        let accept = HeaderValue::try_from(accept).expect("Base64 is valid in a header");
        Ok(Self { connection: hyper::upgrade::on(request), accept })
    }

    /// Returns the answer that switches the protocol. `subprotocol` is one of those that the client offers.
    pub fn answer(&self, subprotocol: Option<&'static str>) -> Response {
        let headers = [
            (header::CONNECTION, HeaderValue::from_static("upgrade")),
            (header::UPGRADE, HeaderValue::from_static("websocket")),
            (header::SEC_WEBSOCKET_ACCEPT, self.accept.clone()),
        ];
        let mut answer = (StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty()).into_response();
        if let Some(subprotocol) = subprotocol {
            let subprotocol = HeaderValue::from_static(subprotocol);
            answer.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
        }
        answer
    }

    /// Waits until the answer is sent, and returns the socket; `None` if the connection ended before. Messages count
    /// in `share`.
    pub async fn socket(self, share: Share) -> Option<WebSocket> {
        Some(WebSocket::new(self.connection.await.ok()?, share))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_for_a_websocket_is_checked() {
        let of = |lines: &[(&str, &str)]| {
            let mut request = Request::builder();
            for (name, value) in lines {
                request = request.header(*name, *value);
            }
            let mut request = request.body(()).expect("a request");
            Upgrade::of(&mut request).map(|upgrade| upgrade.accept).map_err(|error| error.detail())
        };
        let (upgrade, connection) = (("upgrade", "WebSocket"), ("connection", "keep-alive, Upgrade"));
        let (version, key) =
            (("sec-websocket-version", "13"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="));
        // The example of RFC 6455.
        let expected = HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(of(&[upgrade, connection, version, key]), Ok(expected));
        for (lines, named) in [
            (&[connection, version, key][..], "Upgrade"),
            (&[upgrade, version, key], "Upgrade"),
            (&[upgrade, connection, key], "Sec-WebSocket-Version"),
            (&[upgrade, connection, ("sec-websocket-version", "8"), key], "Sec-WebSocket-Version"),
            (&[upgrade, connection, version], "Sec-WebSocket-Key"),
            (&[upgrade, connection, version, ("sec-websocket-key", "short")], "Sec-WebSocket-Key"),
        ] {
            assert!(of(lines).is_err_and(|error| error.starts_with(named)), "{lines:?}");
        }
    }
}

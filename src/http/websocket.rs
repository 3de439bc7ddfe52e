//! WebSockets (RFC 6455): the answer to a request that asks for one, and the frames of an open one. Messages are
//! bounded, and the memory of incomplete ones counts as that of bodies.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use event::limits::{
    SOCKET_CLOSE_DURATION_MAX, SOCKET_MESSAGE_BYTES_MAX, SOCKET_MESSAGE_BYTES_UNCOUNTED_MAX,
    SOCKET_OUTGOING_BYTES_MAX, SOCKET_READ_BUFFER_BYTES, SOCKET_WRITE_DURATION_MAX,
};
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{ApiError, Share};

pub use tokio_tungstenite::tungstenite::Utf8Bytes;

/// A valid request for a WebSocket.
pub struct Upgrade {
    connection: OnUpgrade,
    accept: HeaderValue,
}

/// A message of the client, or the end of the connection.
pub enum Frame {
    Text(Utf8Bytes),
    Binary(Bytes),
    /// The client is alive.
    Pong,
    /// The message is larger than `SOCKET_MESSAGE_BYTES_MAX`. No further message can be read.
    TooLarge,
    /// The client has closed the connection, it is broken, or there is no memory for its message.
    Closed,
}

/// Why the server closes a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    Normal,
    /// The server stops. The client may connect again.
    Stopping,
    Protocol,
    /// The key was revoked or has expired, or none was shown.
    Refused,
    TooLarge,
}

pub struct WebSocket {
    stream: WebSocketStream<CountedStream>,
}

/// The connection with the memory of the message that is being received.
struct CountedStream {
    connection: TokioIo<Upgraded>,
    /// The bytes that were received since the last complete message.
    received: usize,
    share: Share,
}

/// Returns whether the request asks for a WebSocket.
pub fn wants_websocket(headers: &HeaderMap) -> bool {
    has_token(headers, header::UPGRADE, "websocket")
}

fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
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
        let key = headers.get(header::SEC_WEBSOCKET_KEY);
        let key = key.ok_or_else(|| invalid("Sec-WebSocket-Key", "is missing"))?;
        let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
            .map_err(|_| invalid("Sec-WebSocket-Key", "is not valid"))?;
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
        let connection = TokioIo::new(self.connection.await.ok()?);
        let connection = CountedStream { connection, received: 0, share };
        let config = WebSocketConfig::default()
            .read_buffer_size(SOCKET_READ_BUFFER_BYTES)
            .write_buffer_size(SOCKET_OUTGOING_BYTES_MAX)
            .max_write_buffer_size(usize::MAX)
            .max_message_size(Some(SOCKET_MESSAGE_BYTES_MAX))
            .max_frame_size(Some(SOCKET_MESSAGE_BYTES_MAX));
        let stream = WebSocketStream::from_raw_socket(connection, Role::Server, Some(config)).await;
        Some(WebSocket { stream })
    }
}

impl WebSocket {
    /// Returns the next message. Nothing is lost if the caller stops waiting.
    pub async fn next(&mut self) -> Frame {
        let message = self.stream.next().await;
        self.stream.get_mut().message_ended();
        match message {
            Some(Ok(Message::Text(text))) => Frame::Text(text),
            Some(Ok(Message::Binary(bytes))) => Frame::Binary(bytes),
            // The library answers pings itself.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Frame::Pong,
            Some(Err(Error::Capacity(_))) => Frame::TooLarge,
            Some(Ok(Message::Close(_)) | Err(_)) | None => Frame::Closed,
        }
    }

    /// Sends texts. Fails if the connection is broken, or if the client does not read for too long.
    pub async fn send(&mut self, texts: impl IntoIterator<Item = Utf8Bytes>) -> Result<(), ()> {
        let all = async {
            for text in texts {
                self.stream.feed(Message::Text(text)).await?;
            }
            self.stream.flush().await
        };
        match timeout(SOCKET_WRITE_DURATION_MAX, all).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(()),
        }
    }

    /// Asks the client whether it is alive. Its answer is a `Frame::Pong`.
    pub async fn ping(&mut self) -> Result<(), ()> {
        let ping = self.stream.send(Message::Ping(Bytes::new()));
        match timeout(SOCKET_WRITE_DURATION_MAX, ping).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(()),
        }
    }

    /// Closes the socket in an orderly way: a client that is still sending would otherwise lose what was sent to it.
    pub async fn close(mut self, reason: CloseReason, text: &str) {
        let frame = CloseFrame { code: reason.code(), reason: close_text(text).into() };
        let ended = async {
            if self.stream.close(Some(frame)).await.is_err() {
                return;
            }
            // A message that is too large cannot be read as one, so its bytes are read and dropped.
            let connection = &mut self.stream.get_mut().connection;
            let mut dropped = [0; 4096];
            while connection.read(&mut dropped).await.is_ok_and(|bytes| bytes > 0) {}
        };
        drop(timeout(SOCKET_CLOSE_DURATION_MAX, ended).await);
    }
}

/// Cuts a text to what a close frame may contain: 123 bytes.
fn close_text(text: &str) -> &str {
    let end = (0..=123).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    &text[..end]
}

impl CloseReason {
    fn code(self) -> CloseCode {
        match self {
            Self::Normal => CloseCode::Normal,
            Self::Stopping => CloseCode::Away,
            Self::Protocol => CloseCode::Protocol,
            Self::Refused => CloseCode::Policy,
            Self::TooLarge => CloseCode::Size,
        }
    }
}

impl CountedStream {
    fn message_ended(&mut self) {
        self.received = 0;
        if self.share.bytes() > 0 {
            self.share.shrink_to(0);
        }
    }
}

impl AsyncRead for CountedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.connection).poll_read(context, buffer);
        self.received += buffer.filled().len() - before;
        let received = self.received;
        if received > SOCKET_MESSAGE_BYTES_UNCOUNTED_MAX && self.share.grow_to(received).is_err() {
            return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
        }
        outcome
    }
}

impl AsyncWrite for CountedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
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
        let accepted = of(&[upgrade, connection, version, key]);
        let expected = HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(accepted, Ok(expected));
        for (lines, named) in [
            (&[connection, version, key][..], "Upgrade"),
            (&[upgrade, version, key], "Upgrade"),
            (&[upgrade, connection, key], "Sec-WebSocket-Version"),
            (&[upgrade, connection, ("sec-websocket-version", "8"), key], "Sec-WebSocket-Version"),
            (&[upgrade, connection, version], "Sec-WebSocket-Key"),
        ] {
            assert!(of(lines).is_err_and(|error| error.starts_with(named)), "{lines:?}");
        }
    }

    #[test]
    fn the_text_of_a_close_frame_is_cut_between_characters() {
        assert_eq!(close_text("short"), "short");
        let long = "é".repeat(100);
        assert_eq!(close_text(&long), &long[..122]);
    }
}

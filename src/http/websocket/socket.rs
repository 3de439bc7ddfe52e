//! An open WebSocket: whole messages of the client, and texts for it.

use std::sync::Arc;

use event::limits::{
    SOCKET_BUFFER_BYTES, SOCKET_BUFFER_KEPT_BYTES_MAX, SOCKET_CLOSE_DURATION_MAX, SOCKET_MESSAGE_BYTES_MAX,
    SOCKET_MESSAGE_BYTES_UNCOUNTED_MAX, SOCKET_WRITE_DURATION_MAX,
};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::frame::{CONTROL_BYTES_MAX, Head, Opcode, encode, unmask};
use crate::http::Share;

/// A message of the client, or why there will be none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    Text(Arc<str>),
    Binary,
    /// The client is alive.
    Pong,
    /// The client has closed the connection, or it is broken.
    Closed,
    /// The client broke the protocol.
    Malformed,
    /// The message is larger than `SOCKET_MESSAGE_BYTES_MAX`.
    TooLarge,
    /// There is no memory for the message now.
    NoMemory,
}

/// Why the server closes a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    Normal,
    /// The server stops. The client may connect again.
    Stopping,
    Malformed,
    /// The client may not stay.
    Refused,
    TooLarge,
    /// The client may try again later.
    Overloaded,
}

pub struct WebSocket<S = TokioIo<Upgraded>> {
    connection: S,
    /// Bytes that were received, from `read` on not processed yet.
    input: Vec<u8>,
    read: usize,
    /// The message whose first frames have come.
    partial: Option<(Opcode, Vec<u8>)>,
    /// The memory of the message that is being received.
    share: Share,
    /// Frames that were not written yet, from `written` on.
    output: Vec<u8>,
    written: usize,
    /// The client has sent its close frame.
    is_closed: bool,
    /// The server's close frame was written, or waits to be.
    has_closed: bool,
    /// A write has failed.
    is_broken: bool,
    /// When the client last sent something.
    heard_at: Instant,
}

impl CloseReason {
    fn code(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::Stopping => 1001,
            Self::Malformed => 1002,
            Self::Refused => 1008,
            Self::TooLarge => 1009,
            Self::Overloaded => 1013,
        }
    }

    /// Returns whether the client's further frames cannot be read.
    fn is_unreadable(self) -> bool {
        matches!(self, Self::Malformed | Self::TooLarge | Self::Overloaded)
    }
}

impl WebSocket {
    pub fn new(connection: Upgraded, share: Share) -> Self {
        Self::on(TokioIo::new(connection), share)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    fn on(connection: S, share: Share) -> Self {
        Self {
            connection,
            input: Vec::new(),
            read: 0,
            partial: None,
            share,
            output: Vec::new(),
            written: 0,
            is_closed: false,
            has_closed: false,
            is_broken: false,
            heard_at: Instant::now(),
        }
    }

    /// Returns when the client last sent something, which may be a part of a message.
    pub fn heard_at(&self) -> Instant {
        self.heard_at
    }

    /// Counts further messages in another share.
    pub fn set_share(&mut self, share: Share) {
        self.share = share;
    }

    /// Returns the next message. Nothing is lost if the caller stops waiting.
    pub async fn next(&mut self) -> Message {
        loop {
            // The answer to a ping is sent before more is read, so that answers do not pile up.
            if !self.output.is_empty() && self.flush_in_time().await.is_err() {
                return Message::Closed;
            }
            if let Some(message) = self.take_message() {
                return message;
            }
            if !self.output.is_empty() {
                continue;
            }
            self.input.reserve(SOCKET_BUFFER_BYTES);
            let read = self.connection.read_buf(&mut self.input).await;
            self.heard_at = Instant::now();
            match read {
                Ok(0) | Err(_) => return Message::Closed,
                Ok(_) if self.count_memory().is_err() => return Message::NoMemory,
                Ok(_) => {}
            }
        }
    }

    /// Sends texts. Fails if the connection is broken, or if the client does not read for too long.
    pub async fn send<T: AsRef<str>>(&mut self, texts: impl IntoIterator<Item = T>) -> Result<(), ()> {
        for text in texts {
            encode(Opcode::Text, text.as_ref().as_bytes(), &mut self.output);
        }
        self.flush_in_time().await
    }

    /// Asks the client whether it is alive. It answers with a pong.
    pub async fn ping(&mut self) -> Result<(), ()> {
        encode(Opcode::Ping, &[], &mut self.output);
        self.flush_in_time().await
    }

    /// Closes the socket. A client that is still sending would lose what was sent to it last if its connection were cut,
    /// so it gets some time to close its side.
    pub async fn close(mut self, reason: CloseReason, text: &str) {
        if self.is_broken {
            return;
        }
        if self.is_closed {
            let _ = self.flush_in_time().await;
        } else {
            self.has_closed = true;
            let mut content = reason.code().to_be_bytes().to_vec();
            content.extend_from_slice(close_text(text).as_bytes());
            encode(Opcode::Close, &content, &mut self.output);
            if self.flush_in_time().await.is_err() {
                return;
            }
            if !reason.is_unreadable() {
                drop(timeout(SOCKET_CLOSE_DURATION_MAX, self.answer_to_close()).await);
            }
        }
        drop(timeout(SOCKET_CLOSE_DURATION_MAX, self.connection.shutdown()).await);
    }

    async fn answer_to_close(&mut self) {
        loop {
            match self.next().await {
                Message::Text(_) | Message::Binary | Message::Pong => {}
                Message::Closed | Message::Malformed | Message::TooLarge | Message::NoMemory => return,
            }
        }
    }

    async fn flush_in_time(&mut self) -> Result<(), ()> {
        if !self.is_broken {
            self.is_broken = self.flush().await.is_err();
        }
        if self.is_broken { Err(()) } else { Ok(()) }
    }

    /// Writes all frames. Continues where it was if the caller stops waiting. Fails if the client reads nothing for too
    /// long.
    async fn flush(&mut self) -> std::io::Result<()> {
        while self.written < self.output.len() {
            let write = self.connection.write(&self.output[self.written..]);
            match timeout(SOCKET_WRITE_DURATION_MAX, write).await?? {
                0 => return Err(std::io::ErrorKind::WriteZero.into()),
                bytes => self.written += bytes,
            }
        }
        self.written = 0;
        self.output.clear();
        self.output.shrink_to(SOCKET_BUFFER_KEPT_BYTES_MAX);
        self.connection.flush().await
    }

    /// Takes the next message out of the input; `None` if it is not complete.
    fn take_message(&mut self) -> Option<Message> {
        loop {
            let head = match Head::decode(&self.input[self.read..]) {
                Ok(head) => head?,
                Err(_) => return Some(Message::Malformed),
            };
            let before = self.partial.as_ref().map_or(0, |(_, content)| content.len());
            if !head.opcode.is_control() && head.content_bytes > SOCKET_MESSAGE_BYTES_MAX - before {
                return Some(Message::TooLarge);
            }
            let begin = self.read + head.bytes;
            let end = begin + head.content_bytes;
            let content = self.input.get_mut(begin..end)?;
            unmask(content, head.mask);
            let message = match (head.opcode, self.partial.take()) {
                (Opcode::Ping, partial) => {
                    encode(Opcode::Pong, content, &mut self.output);
                    self.partial = partial;
                    Some(Message::Pong)
                }
                (Opcode::Pong, partial) => {
                    self.partial = partial;
                    Some(Message::Pong)
                }
                (Opcode::Close, _) if content.len() == 1 => Some(Message::Malformed),
                (Opcode::Close, _) => {
                    let code = &content[..content.len().min(2)];
                    if !self.has_closed {
                        encode(Opcode::Close, code, &mut self.output);
                    }
                    (self.is_closed, self.has_closed) = (true, true);
                    Some(Message::Closed)
                }
                (Opcode::Continuation, None) | (Opcode::Text | Opcode::Binary, Some(_)) => {
                    Some(Message::Malformed)
                }
                (Opcode::Continuation, Some((opcode, mut whole))) => {
                    whole.extend_from_slice(content);
                    if head.is_last {
                        Some(whole_message(opcode, &whole))
                    } else {
                        self.partial = Some((opcode, whole));
                        None
                    }
                }
                (opcode @ (Opcode::Text | Opcode::Binary), None) if head.is_last => {
                    Some(whole_message(opcode, content))
                }
                (opcode @ (Opcode::Text | Opcode::Binary), None) => {
                    self.partial = Some((opcode, content.to_vec()));
                    None
                }
            };
            self.consume(end);
            if message.is_some() {
                return message;
            }
        }
    }

    /// Removes the input before `end`, and gives the memory of a large message back.
    fn consume(&mut self, end: usize) {
        self.read = end;
        if self.read == self.input.len() {
            self.input.clear();
            self.read = 0;
        } else if self.read >= SOCKET_BUFFER_BYTES {
            self.input.drain(..self.read);
            self.read = 0;
        }
        self.input.shrink_to(SOCKET_BUFFER_KEPT_BYTES_MAX);
        // This only gives memory back, or counts what was counted before.
        let _ = self.count_memory();
    }

    fn count_memory(&mut self) -> Result<(), ()> {
        let bytes = self.input.len() + self.partial.as_ref().map_or(0, |(_, content)| content.capacity());
        if bytes > SOCKET_MESSAGE_BYTES_UNCOUNTED_MAX {
            self.share.grow_to(bytes).map_err(drop)
        } else {
            if self.share.bytes() > 0 {
                self.share.shrink_to(0);
            }
            Ok(())
        }
    }
}

fn whole_message(opcode: Opcode, content: &[u8]) -> Message {
    match (opcode, std::str::from_utf8(content)) {
        (Opcode::Binary, _) => Message::Binary,
        (_, Ok(text)) => Message::Text(text.into()),
        (_, Err(_)) => Message::Malformed,
    }
}

/// Cuts a text to what a close frame may contain beside its code.
fn close_text(text: &str) -> &str {
    let end = (0..=CONTROL_BYTES_MAX - 2).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    &text[..end]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::DuplexStream;

    use super::*;

    /// Returns a client's frame.
    fn frame(first: u8, content: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        encode(Opcode::Text, content, &mut frame);
        let head = frame.len() - content.len();
        (frame[0], frame[1]) = (first, frame[1] | 0x80);
        let mask = [1, 2, 3, 4];
        frame.splice(head..head, mask);
        unmask(&mut frame[head + 4..], mask);
        frame
    }

    fn pair() -> (WebSocket<DuplexStream>, DuplexStream) {
        let (server, client) = tokio::io::duplex(64 * 1024);
        (WebSocket::on(server, Share::default()), client)
    }

    fn text(text: &str) -> Message {
        Message::Text(text.into())
    }

    #[tokio::test]
    async fn messages_come_whole_and_in_order_however_they_are_cut() {
        let (mut socket, mut client) = pair();
        let mut bytes = frame(0x81, b"one");
        bytes.extend(frame(0x01, b"t"));
        bytes.extend(frame(0x89, b"alive?"));
        bytes.extend(frame(0x00, b"w"));
        bytes.extend(frame(0x80, b"o"));
        bytes.extend(frame(0x82, &[1, 2]));
        bytes.extend(frame(0x81, "drei ü".repeat(100).as_bytes()));
        for byte in bytes {
            client.write_all(&[byte]).await.expect("written");
        }
        let expected =
            [text("one"), Message::Pong, text("two"), Message::Binary, text(&"drei ü".repeat(100))];
        for message in expected {
            assert_eq!(socket.next().await, message);
        }
        let mut pong = [0; 8];
        client.read_exact(&mut pong).await.expect("a pong");
        assert_eq!(&pong, b"\x8A\x06alive?");
        client.write_all(&frame(0x88, &[3, 232])).await.expect("written");
        assert_eq!(socket.next().await, Message::Closed);
        socket.close(CloseReason::Normal, "").await;
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.expect("the end");
        assert_eq!(rest, [0x88, 2, 3, 232], "one close frame, with the client's code");
    }

    #[tokio::test]
    async fn what_no_client_may_send_ends_the_socket() {
        for bytes in [
            frame(0x80, b"a continuation without a begin"),
            frame(0x81, &[0xFF]),
            [frame(0x01, b"a"), frame(0x81, b"b")].concat(),
            vec![0x81, 0x01, b'a'],
        ] {
            let (mut socket, mut client) = pair();
            client.write_all(&bytes).await.expect("written");
            assert_eq!(socket.next().await, Message::Malformed, "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn a_message_that_is_too_large_is_known_from_its_head_and_in_parts() {
        let (mut socket, mut client) = pair();
        let head = frame(0x81, &vec![b'x'; SOCKET_MESSAGE_BYTES_MAX + 1]);
        client.write_all(&head[..14]).await.expect("written");
        assert_eq!(socket.next().await, Message::TooLarge);
        let (mut socket, mut client) = pair();
        let sending = tokio::spawn(async move {
            let part = vec![b'x'; SOCKET_MESSAGE_BYTES_MAX / 2];
            for first in [0x01, 0x00, 0x80] {
                drop(client.write_all(&frame(first, &part)).await);
            }
        });
        assert_eq!(socket.next().await, Message::TooLarge);
        sending.abort();
    }

    #[tokio::test]
    async fn the_buffer_of_a_large_message_is_given_back() {
        let (mut socket, mut client) = pair();
        let large = vec![b'x'; SOCKET_MESSAGE_BYTES_MAX];
        let sending = tokio::spawn(async move {
            client.write_all(&frame(0x81, &large)).await.expect("written");
            client.write_all(&frame(0x81, b"small")).await.expect("written");
            client
        });
        assert!(matches!(socket.next().await, Message::Text(text) if text.len() == SOCKET_MESSAGE_BYTES_MAX));
        assert!(socket.input.capacity() <= SOCKET_BUFFER_KEPT_BYTES_MAX + SOCKET_BUFFER_BYTES);
        assert_eq!(socket.share.bytes(), 0);
        assert_eq!(socket.next().await, text("small"));
        drop(sending.await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_given_up_and_its_pings_take_no_memory() {
        let (server, mut client) = tokio::io::duplex(1024);
        let mut socket = WebSocket::on(server, Share::default());
        let pinging = tokio::spawn(async move {
            while client.write_all(&frame(0x89, &[0; CONTROL_BYTES_MAX])).await.is_ok() {}
        });
        let begun = tokio::time::Instant::now();
        loop {
            match socket.next().await {
                Message::Pong => assert!(socket.output.len() <= 2 * (CONTROL_BYTES_MAX + 2)),
                Message::Closed => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(begun.elapsed() >= SOCKET_WRITE_DURATION_MAX - Duration::from_secs(1));
        pinging.abort();
    }

    #[test]
    fn the_text_of_a_close_frame_is_cut_between_characters() {
        assert_eq!(close_text("short"), "short");
        let long = "é".repeat(100);
        assert_eq!(close_text(&long), &long[..122]);
    }
}

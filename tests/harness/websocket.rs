//! A small blocking WebSocket client (RFC 6455). It is written here, so that a test decides about each frame, and knows
//! which answers had arrived when a connection broke.

use std::io::{Error, ErrorKind, Result, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use super::http::{self, Client};

const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// The text that RFC 6455 appends to a client's key.
const ACCEPT_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The key is the same for each connection, because no cache lies between a test and its server.
const KEY: &[u8; 16] = b"key of the tests";
const CLOSE_DURATION_MAX: Duration = Duration::from_secs(20);

/// What the server sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    Text(String),
    /// The server has closed the connection.
    Closed {
        code: u16,
        reason: String,
    },
}

pub struct WebSocket {
    stream: TcpStream,
    /// Bytes of frames that are not complete yet.
    received: Vec<u8>,
    /// The number of frames that were sent.
    sent: u32,
}

impl WebSocket {
    /// Opens a WebSocket with the headers of `client`. Fails with `ErrorKind::Other` if the server refuses it.
    pub fn open(client: &Client, path: &str) -> Result<Self> {
        let key = STANDARD.encode(KEY);
        let (stream, answer) = client.upgrade(path, &key)?;
        if answer.status != 101 {
            return Err(Error::other(format!("answer {} to {path}: {}", answer.status, answer.text())));
        }
        let accept = STANDARD.encode(Sha1::new().chain_update(key).chain_update(ACCEPT_SUFFIX).finalize());
        if answer.header("sec-websocket-accept") != Some(&accept) {
            return Err(malformed("the server did not accept the key of this handshake"));
        }
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: answer.body, sent: 0 })
    }

    /// Sends a text.
    pub fn send(&mut self, text: &str) -> Result<()> {
        self.send_frame(TEXT, text.as_bytes())
    }

    /// Returns the next text, or how the server has closed the connection. Answers pings. Fails if nothing of this comes
    /// in time, or if the connection breaks.
    pub fn read(&mut self, within: Duration) -> Result<Message> {
        let deadline = Instant::now() + within;
        loop {
            let (opcode, content) = self.read_frame(deadline)?;
            match opcode {
                TEXT => {
                    let text = String::from_utf8(content).map_err(|_| malformed("a text is not UTF-8"))?;
                    return Ok(Message::Text(text));
                }
                CLOSE => {
                    let (code, reason) =
                        content.split_first_chunk().ok_or_else(|| malformed("a close has no code"))?;
                    let reason = String::from_utf8_lossy(reason).into_owned();
                    return Ok(Message::Closed { code: u16::from_be_bytes(*code), reason });
                }
                PING => self.send_frame(PONG, &content)?,
                PONG => {}
                _ => return Err(malformed("a frame is neither a whole text nor a control frame")),
            }
        }
    }

    /// Returns the next text. Fails if the server closes the connection.
    pub fn read_text(&mut self, within: Duration) -> Result<String> {
        match self.read(within)? {
            Message::Text(text) => Ok(text),
            Message::Closed { code, reason } => {
                let reason = format!("the server closed the socket with {code}: {reason}");
                Err(Error::new(ErrorKind::ConnectionAborted, reason))
            }
        }
    }

    /// Closes the connection. Returns the texts that the server sends before it closes its side.
    pub fn close(mut self) -> Result<Vec<String>> {
        self.send_frame(CLOSE, &1000_u16.to_be_bytes())?;
        let mut texts = Vec::new();
        while let Message::Text(text) = self.read(CLOSE_DURATION_MAX)? {
            texts.push(text);
        }
        Ok(texts)
    }

    /// Sends a whole message as one frame, with another mask than the frame before.
    fn send_frame(&mut self, opcode: u8, content: &[u8]) -> Result<()> {
        const IS_LAST: u8 = 0x80;
        const IS_MASKED: u8 = 0x80;
        self.sent += 1;
        let mask = self.sent.wrapping_mul(0x9E37_79B9).to_be_bytes();
        let mut frame = vec![IS_LAST | opcode];
        match content.len() {
            short @ 0..=125 => frame.push(IS_MASKED | short as u8),
            medium @ 126..=0xFFFF => {
                frame.push(IS_MASKED | 126);
                frame.extend_from_slice(&(medium as u16).to_be_bytes());
            }
            long => {
                frame.push(IS_MASKED | 127);
                frame.extend_from_slice(&(long as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(&mask);
        frame.extend(content.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.stream.write_all(&frame)
    }

    fn read_frame(&mut self, deadline: Instant) -> Result<(u8, Vec<u8>)> {
        let mut buffer = [0_u8; 16 * 1024];
        loop {
            if let Some(frame) = take_frame(&mut self.received)? {
                return Ok(frame);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::new(ErrorKind::TimedOut, "the server sent nothing in time"));
            }
            self.stream.set_read_timeout(Some(left))?;
            match http::read(&mut self.stream, &mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Takes the first frame out of what was received; `None` if it is not complete. The server sends each message as one
/// frame without a mask, and uses no extensions.
fn take_frame(received: &mut Vec<u8>) -> Result<Option<(u8, Vec<u8>)>> {
    let [first, second, rest @ ..] = received.as_slice() else { return Ok(None) };
    if first & 0xF0 != 0x80 || second & 0x80 != 0 {
        return Err(malformed("a frame has a mask, an extension, or only a part of a message"));
    }
    let (length, head) = match second {
        126 => match rest.first_chunk() {
            Some(length) => (u64::from(u16::from_be_bytes(*length)), 4),
            None => return Ok(None),
        },
        127 => match rest.first_chunk() {
            Some(length) => (u64::from_be_bytes(*length), 10),
            None => return Ok(None),
        },
        short => (u64::from(*short), 2),
    };
    let (opcode, end) = (first & 0x0F, head + length as usize);
    if received.len() < end {
        return Ok(None);
    }
    let content = received[head..end].to_vec();
    received.drain(..end);
    Ok(Some((opcode, content)))
}

fn malformed(reason: &str) -> Error {
    Error::new(ErrorKind::InvalidData, reason)
}

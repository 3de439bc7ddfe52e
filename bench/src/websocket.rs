//! The parts of WebSockets that the load generator needs: the request for one, masked frames, and the frames of the
//! server.

use crate::Outcome;

/// A frame of the server.
pub struct Frame<'a> {
    pub content: &'a [u8],
    /// The length of the frame with its head.
    pub bytes: usize,
}

pub fn upgrade_request(path: &str, headers: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
    .into_bytes()
}

/// Returns a frame of a client with this text, which has less than 64 KiB. Its mask consists of zeros.
pub fn text_frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match text.len() {
        short @ 0..=125 => frame.push(0x80 | short as u8),
        long => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(long as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(text.as_bytes());
    frame
}

/// Returns the first frame in `buffer` if it is complete. Fails if it is not a text.
pub fn first_frame(buffer: &[u8]) -> Outcome<Option<Frame<'_>>> {
    let [first, second, ..] = *buffer else { return Ok(None) };
    if first != 0x81 {
        return Err(format!("expected a text frame, got: {}", String::from_utf8_lossy(buffer)).into());
    }
    let (length, head) = match second {
        126 => match buffer.get(2..4) {
            Some(length) => (usize::from(u16::from_be_bytes([length[0], length[1]])), 4),
            None => return Ok(None),
        },
        short @ 0..=125 => (usize::from(short), 2),
        _ => return Err("a frame is too long".into()),
    };
    Ok(buffer.get(head..head + length).map(|content| Frame { content, bytes: head + length }))
}

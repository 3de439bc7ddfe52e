//! Reads Server-Sent Events: messages as lines of text, which arrive in pieces that may be cut anywhere.

use std::collections::VecDeque;
use std::time::Duration;

use event::limits::LIVE_MESSAGE_BYTES_MAX;
use memchr::memchr2;

const BYTE_ORDER_MARK: char = '\u{feff}';

/// A message. One without data only has an id, or tells how long to wait before the next connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Empty for a message without a name.
    pub name: String,
    pub data: String,
    pub id: Option<String>,
    pub retry: Option<Duration>,
}

/// The server sent a message of more than `LIVE_MESSAGE_BYTES_MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageTooLarge;

/// The messages of one connection.
#[derive(Default)]
pub struct EventStream {
    /// The start of a line whose end has not arrived.
    line: Vec<u8>,
    /// The message to which that line belongs, and its bytes so far.
    message: Message,
    message_bytes: usize,
    has_begun: bool,
    /// The last byte was a carriage return. A line feed that follows is a part of the same line end.
    ended_with_return: bool,
    complete: VecDeque<Message>,
}

impl EventStream {
    /// Adds a piece that has arrived.
    pub fn push(&mut self, mut piece: &[u8]) -> Result<(), MessageTooLarge> {
        if !piece.is_empty() && std::mem::take(&mut self.ended_with_return) {
            piece = piece.strip_prefix(b"\n").unwrap_or(piece);
        }
        while let Some(end) = memchr2(b'\r', b'\n', piece) {
            self.append(&piece[..end])?;
            self.end_line();
            let is_return = piece[end] == b'\r';
            piece = &piece[end + 1..];
            if is_return {
                self.ended_with_return = piece.is_empty();
                piece = piece.strip_prefix(b"\n").unwrap_or(piece);
            }
        }
        self.append(piece)
    }

    /// Returns the next complete message.
    pub fn pop(&mut self) -> Option<Message> {
        self.complete.pop_front()
    }

    /// Returns the next complete message if it has data and no name.
    pub fn pop_unnamed(&mut self) -> Option<Message> {
        let next = self.complete.front()?;
        if next.name.is_empty() && !next.data.is_empty() { self.complete.pop_front() } else { None }
    }

    /// Adds a part of a line.
    fn append(&mut self, part: &[u8]) -> Result<(), MessageTooLarge> {
        self.message_bytes += part.len();
        if self.message_bytes > LIVE_MESSAGE_BYTES_MAX {
            return Err(MessageTooLarge);
        }
        self.line.extend_from_slice(part);
        Ok(())
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        // Decoded only now, because a piece may end inside a character.
        let text = String::from_utf8_lossy(&line);
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        let text = if is_first { text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&text) } else { &text };
        if text.is_empty() {
            self.end_message();
        } else {
            self.message.add_line(text);
        }
    }

    fn end_message(&mut self) {
        self.message_bytes = 0;
        let mut message = std::mem::take(&mut self.message);
        // Each line of data has added a line break.
        message.data.pop();
        if message.data.is_empty() {
            message.name.clear();
        }
        if message != Message::default() {
            self.complete.push_back(message);
        }
    }
}

impl Message {
    /// Adds a line of the form `field: value`. A line without a field is a comment.
    fn add_line(&mut self, line: &str) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => self.data.extend([value, "\n"]),
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.retry = value.parse().ok().map(Duration::from_millis);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(name: &str, data: &str, id: Option<&str>) -> Message {
        Message {
            name: name.to_owned(),
            data: data.to_owned(),
            id: id.map(str::to_owned),
            ..Message::default()
        }
    }

    fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Message> {
        let mut stream = EventStream::default();
        pieces.into_iter().for_each(|piece| stream.push(piece).expect("a small message"));
        std::iter::from_fn(|| stream.pop()).collect()
    }

    #[test]
    fn names_ids_data_and_delays_are_read() {
        let text = "retry: 1500\n\nid: 7\n\nid: 8\ndata: {\"a\":1}\n\nevent: reset\ndata:{}\nother: x\n\n";
        let delay = Message { retry: Some(Duration::from_millis(1_500)), ..Message::default() };
        let expected = [
            delay,
            message("", "", Some("7")),
            message("", r#"{"a":1}"#, Some("8")),
            message("reset", "{}", None),
        ];
        assert_eq!(read([text.as_bytes()]), expected);
    }

    #[test]
    fn comments_and_messages_without_content_are_skipped() {
        assert_eq!(
            read([b":\n\n: a comment\n\nevent: reset\n\nretry: soon\n\nid: a\0b\n\n\n\n".as_slice()]),
            []
        );
    }

    #[test]
    fn lines_of_data_are_joined_and_an_incomplete_message_is_not_returned() {
        let text = "data: {\ndata:   \"a\": 1\ndata\ndata: }\n\ndata: incompl";
        assert_eq!(read([text.as_bytes()]), [message("", "{\n  \"a\": 1\n\n}", None)]);
    }

    #[test]
    fn a_stream_may_be_cut_anywhere_and_have_any_line_ends() {
        let text = "\u{feff}id: 1\ndata: zürich 🎉\n\n:\n\nevent: missed\ndata: a\ndata: b\n\n";
        let expected = [message("", "zürich 🎉", Some("1")), message("missed", "a\nb", None)];
        for line_end in ["\n", "\r\n", "\r"] {
            let text = text.replace('\n', line_end);
            assert_eq!(read(text.as_bytes().chunks(1)), expected, "{line_end:?} byte by byte");
            for cut in 0..=text.len() {
                let (first, second) = text.as_bytes().split_at(cut);
                assert_eq!(read([first, b"", second]), expected, "{line_end:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn unnamed_messages_are_taken_one_by_one() {
        let mut stream = EventStream::default();
        stream.push(b"data: 1\n\nevent: end\ndata: 2\n\ndata: 3\n\n").expect("small messages");
        assert_eq!(stream.pop_unnamed(), Some(message("", "1", None)));
        assert_eq!(stream.pop_unnamed(), None);
        assert_eq!(stream.pop(), Some(message("end", "2", None)));
        assert_eq!(stream.pop_unnamed(), Some(message("", "3", None)));
    }

    #[test]
    fn a_message_is_bounded_but_a_stream_is_not() {
        let line = [b"data: ".as_slice(), &vec![b'x'; 1024 * 1024], b"\n"].concat();
        let mut stream = EventStream::default();
        let lines = LIVE_MESSAGE_BYTES_MAX / line.len() + 1;
        for _ in 0..lines {
            stream.push(&line).and_then(|()| stream.push(b"\n")).expect("a small message");
            assert!(stream.pop().is_some());
        }
        let pushed = (0..lines).map(|_| stream.push(&line)).collect::<Vec<_>>();
        assert_eq!(pushed.iter().position(Result::is_err), Some(lines - 1));
    }
}

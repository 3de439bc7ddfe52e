//! A small blocking client for Server-Sent Events. Unlike a browser, it does not reconnect.

use std::collections::VecDeque;
use std::io::{Error, ErrorKind, Result, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::http::{self, Client};

/// Time for a message to come, unless a test says otherwise.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Empty for a change.
    pub name: String,
    pub data: String,
}

pub struct EventStream {
    stream: TcpStream,
    chunked: Vec<u8>,
    /// The body without the sizes of its chunks.
    text: Vec<u8>,
    /// Received ids, and the messages that came with them, that were not returned yet.
    ready: VecDeque<(Option<String>, Option<Event>)>,
    /// The id of the last message that was returned, or one that came alone after it.
    pub id: String,
    pub comments: usize,
    pub retry: Option<u64>,
    has_ended: bool,
}

impl Event {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl EventStream {
    /// Opens a stream. Panics if the server refuses.
    pub fn open(client: &Client, path: &str) -> Self {
        Self::try_open(client, path).unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    pub fn try_open(client: &Client, path: &str) -> Result<Self> {
        let head = client.head("GET", path, "text/plain", 0).replace("Content-Length: 0\r\n", "");
        let mut stream = client.connect()?;
        stream.write_all(head.as_bytes())?;
        let answer = http::read_answer(&mut stream)?;
        let kind = answer.header("content-type").unwrap_or_default();
        if answer.status != 200 || kind != "text/event-stream" {
            return Err(Error::other(format!("{} {kind}: {}", answer.status, answer.text())));
        }
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
        let mut events = Self {
            stream,
            text: Vec::new(),
            chunked: answer.body,
            ready: VecDeque::new(),
            id: String::new(),
            comments: 0,
            retry: None,
            has_ended: false,
        };
        events.take_chunks();
        Ok(events)
    }

    /// Returns the next message, or the end of the stream as `None`.
    pub fn next(&mut self) -> Option<Event> {
        self.read(WAIT_MAX).unwrap_or_else(|error| panic!("no message: {error}"))
    }

    /// Returns the content of the next change. Panics if another message comes.
    pub fn change(&mut self) -> Value {
        let event = self.next().expect("the stream has ended");
        assert_eq!(event.name, "", "{event:?}");
        event.json()
    }

    /// Returns the content of the next change, and passes over messages `reset`: a rebuild tells its readers when it
    /// begins and when it ends.
    pub fn change_after_resets(&mut self) -> Value {
        loop {
            let event = self.next().expect("the stream has ended");
            if event.name != "reset" {
                assert_eq!(event.name, "", "{event:?}");
                return event.json();
            }
        }
    }

    /// Returns the content of the next message, which must have this name.
    pub fn named(&mut self, name: &str) -> Value {
        let event = self.next().expect("the stream has ended");
        assert_eq!(event.name, name, "{event:?}");
        event.json()
    }

    /// Fails with `TimedOut` if no message comes in time.
    pub fn read(&mut self, within: Duration) -> Result<Option<Event>> {
        let deadline = Instant::now() + within;
        loop {
            while let Some((id, event)) = self.ready.pop_front() {
                self.id = id.unwrap_or_else(|| std::mem::take(&mut self.id));
                if event.is_some() {
                    return Ok(event);
                }
            }
            if self.has_ended || !self.receive(deadline)? {
                return Ok(None);
            }
        }
    }

    /// Returns the messages that come until none has come for a time.
    pub fn until_quiet(&mut self, quiet: Duration) -> Vec<Event> {
        let mut events = Vec::new();
        while let Ok(Some(event)) = self.read(quiet) {
            events.push(event);
        }
        events
    }

    /// Reads until the stream has told where it is.
    pub fn wait_for_place(&mut self) -> String {
        let deadline = Instant::now() + WAIT_MAX;
        while self.id.is_empty() {
            match self.ready.pop_front() {
                Some((id, None)) => self.id = id.unwrap_or_default(),
                Some((_, Some(event))) => panic!("a message before a place: {event:?}"),
                None => assert!(self.receive(deadline).expect("a place"), "the stream has ended"),
            }
        }
        self.id.clone()
    }

    /// Reads some bytes. Returns `false` at the end.
    fn receive(&mut self, deadline: Instant) -> Result<bool> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut buffer = [0; 64 * 1024];
        match http::read(&mut self.stream, &mut buffer) {
            Ok(0) => return Ok(false),
            Ok(count) => self.chunked.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
        self.take_chunks();
        Ok(true)
    }

    fn take_chunks(&mut self) {
        let mut at = 0;
        while let Some(line) = self.chunked[at..].windows(2).position(|pair| pair == b"\r\n") {
            let size = std::str::from_utf8(&self.chunked[at..at + line]).ok();
            let size =
                size.and_then(|text| usize::from_str_radix(text, 16).ok()).expect("the size of a chunk");
            let begin = at + line + 2;
            if self.chunked.len() < begin + size + 2 {
                break;
            }
            self.text.extend_from_slice(&self.chunked[begin..begin + size]);
            at = begin + size + 2;
            self.has_ended |= size == 0;
        }
        self.chunked.drain(..at);
        let text = std::mem::take(&mut self.text);
        let mut rest = text.as_slice();
        while let Some(end) = rest.windows(2).position(|pair| pair == b"\n\n") {
            self.take_block(std::str::from_utf8(&rest[..end]).expect("UTF-8"));
            rest = &rest[end + 2..];
        }
        self.text = rest.to_vec();
    }

    fn take_block(&mut self, block: &str) {
        let (mut event, mut lines, mut id) = (Event::default(), Vec::new(), None);
        for line in block.lines().filter(|line| !line.is_empty()) {
            let (field, value) = line.split_once(':').expect("a field");
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" => self.comments += 1,
                "id" => id = Some(value.to_owned()),
                "event" => event.name = value.to_owned(),
                "data" => lines.push(value),
                "retry" => self.retry = value.parse().ok(),
                other => panic!("an unknown field: {other}"),
            }
        }
        event.data = lines.join("\n");
        self.ready.push_back((id, Some(event).filter(|_| !lines.is_empty())));
    }
}

//! The checker's own history. Every request is written and synced to this file before it is sent, and its outcome
//! once it is known. A new checker continues from the file, however the previous one ended.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// How requests reach the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Http,
    SocketIo,
    WebSocket,
}

/// The source that a request is sent to, with the identity of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// `POST /liveEvent`: no identity, so a repeat is a new event.
    LiveEvent,
    /// One object with an id.
    Object { id: String },
    /// An array with an `Idempotency-Key`.
    Array { key: String },
    /// Lines with `Millrace-Upload` and `Millrace-First-Line`.
    Lines { upload: String, first_line: u64 },
    /// One event over Socket.IO. Without an id, a repeat is a new event.
    SocketIo { id: Option<String> },
    /// One frame over a WebSocket. The ids of its events begin with `name`. Without it, a repeat is a new frame.
    Frame { form: FrameForm, name: Option<String> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FrameForm {
    Object,
    Array,
    Lines,
}

impl Source {
    pub fn transport(&self) -> Transport {
        match self {
            Self::LiveEvent | Self::Object { .. } | Self::Array { .. } | Self::Lines { .. } => {
                Transport::Http
            }
            Self::SocketIo { .. } => Transport::SocketIo,
            Self::Frame { .. } => Transport::WebSocket,
        }
    }

    /// Returns whether the request counts once even if it is sent again.
    pub fn has_identity(&self) -> bool {
        match self {
            Self::LiveEvent => false,
            Self::Object { .. } | Self::Array { .. } | Self::Lines { .. } => true,
            Self::SocketIo { id } => id.is_some(),
            Self::Frame { name, .. } => name.is_some(),
        }
    }

    /// Returns the id in the text of the event at `index`, if it has one.
    pub fn event_id(&self, index: usize) -> Option<String> {
        match self {
            Self::Object { id } => Some(id.clone()),
            Self::SocketIo { id } => id.clone(),
            Self::Frame { name, .. } => name.as_ref().map(|name| format!("{name}-{index}")),
            Self::LiveEvent | Self::Array { .. } | Self::Lines { .. } => None,
        }
    }
}

/// One event. `units` are ten-thousandths, negative if the amount is subtracted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sale {
    pub number: u64,
    pub user: String,
    pub units: i128,
    /// The number of characters that only make the event longer.
    pub pad: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub number: u64,
    pub source: Source,
    pub sales: Vec<Sale>,
    /// The number of the socket over which the request is sent first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The event ids of the answer, if the source returns them.
    Acknowledged { ids: Vec<String> },
    /// The answer guarantees that nothing was stored.
    Refused,
}

#[derive(Serialize, Deserialize)]
enum Line {
    Sent(Request),
    Ended(u64, Outcome),
}

/// A request and its outcome. Times are line numbers of the history.
#[derive(Clone, Debug)]
pub struct KnownRequest {
    pub request: Request,
    /// The time at which it was sent first.
    pub sent: usize,
    /// How often it was sent.
    pub sends: usize,
    /// The time of the first acknowledgement, and its event ids.
    pub acknowledged: Option<(usize, Vec<String>)>,
    pub refused: bool,
}

impl KnownRequest {
    pub fn is_unknown(&self) -> bool {
        self.acknowledged.is_none() && !self.refused
    }
}

pub struct History {
    state: Mutex<State>,
}

struct State {
    file: File,
    lines: usize,
    known: BTreeMap<u64, KnownRequest>,
    /// The highest number of a socket.
    connections: u64,
}

impl History {
    /// Opens a history and reads it. An incomplete last line, left by a crash, is dropped: its request was not yet
    /// sent, or its outcome counts as unknown.
    pub fn open(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.set_len(whole as u64).unwrap();
        let mut state = State { file, lines: 0, known: BTreeMap::new(), connections: 0 };
        for line in text[..whole].lines() {
            state.take(serde_json::from_str(line).unwrap());
        }
        Self { state: Mutex::new(state) }
    }

    /// Notes that these requests will be sent next, in this order.
    pub fn sending(&self, requests: &[Request]) {
        self.note(requests.iter().cloned().map(Line::Sent).collect());
    }

    pub fn ended(&self, number: u64, outcome: Outcome) {
        self.note(vec![Line::Ended(number, outcome)]);
    }

    fn note(&self, lines: Vec<Line>) {
        let text: String = lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.file.write_all(text.as_bytes()).unwrap();
        state.file.sync_data().unwrap();
        lines.into_iter().for_each(|line| state.take(line));
    }

    /// Returns all requests, in the order of their numbers.
    pub fn requests(&self) -> Vec<KnownRequest> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.known.values().cloned().collect()
    }

    pub fn is_acknowledged(&self, number: u64) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.known.get(&number).is_some_and(|known| known.acknowledged.is_some())
    }

    /// Returns an unused number of a socket.
    pub fn new_connection(&self) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.connections += 1;
        state.connections
    }

    /// Returns an unused request number.
    pub fn next_number(&self) -> u64 {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.known.last_key_value().map_or(0, |(number, _)| number + 1)
    }
}

impl State {
    fn take(&mut self, line: Line) {
        self.lines += 1;
        let now = self.lines;
        match line {
            Line::Sent(request) => {
                self.connections = self.connections.max(request.connection.unwrap_or(0));
                let new = KnownRequest { request, sent: now, sends: 0, acknowledged: None, refused: false };
                let known = self.known.entry(new.request.number).or_insert(new);
                known.sends += 1;
                // A refused request that is sent again may be stored after all.
                known.refused = false;
            }
            Line::Ended(number, outcome) => {
                let known = self.known.get_mut(&number).unwrap();
                match outcome {
                    Outcome::Acknowledged { ids } => {
                        known.acknowledged.get_or_insert((now, ids));
                    }
                    Outcome::Refused => known.refused = true,
                }
            }
        }
    }
}

#[test]
fn a_truncated_history_is_read_up_to_its_last_complete_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history");
    let request = |number| Request { number, source: Source::LiveEvent, sales: Vec::new(), connection: None };
    let history = History::open(&path);
    (0..3).for_each(|number| history.sending(&[request(number)]));
    history.ended(0, Outcome::Acknowledged { ids: Vec::new() });
    history.ended(1, Outcome::Refused);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let again = History::open(&path);
    let unknown: Vec<bool> = again.requests().iter().map(KnownRequest::is_unknown).collect();
    assert_eq!((unknown, again.next_number()), (vec![false, true, true], 3));
    again.ended(1, Outcome::Refused);
    assert!(History::open(&path).requests()[1].refused, "the next line begins on its own line");
}

#[test]
fn requests_are_read_as_they_were_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history");
    let sale = |number| Sale { number, user: "user-1".to_owned(), units: -7, pad: 0 };
    let sources = [
        Source::LiveEvent,
        Source::Object { id: "object-1".to_owned() },
        Source::Array { key: "array-2".to_owned() },
        Source::Lines { upload: "file-0".to_owned(), first_line: 30_001 },
        Source::SocketIo { id: Some("socket-4".to_owned()) },
        Source::SocketIo { id: None },
        Source::Frame { form: FrameForm::Lines, name: Some("frame-6".to_owned()) },
        Source::Frame { form: FrameForm::Object, name: None },
    ];
    let request = |(number, source): (u64, Source)| {
        let connection = (source.transport() != Transport::Http).then_some(number);
        Request { number, source, sales: vec![sale(2 * number), sale(2 * number + 1)], connection }
    };
    let requests: Vec<Request> = (0..).zip(sources).map(request).collect();
    History::open(&path).sending(&requests);
    let again = History::open(&path);
    again.sending(&requests[..1]);
    assert_eq!(again.new_connection(), 8, "the request before had the highest number");
    let known = again.requests();
    assert!(known.iter().map(|known| &known.request).eq(&requests));
    assert_eq!(known.iter().map(|known| known.sends).collect::<Vec<_>>(), [2, 1, 1, 1, 1, 1, 1, 1]);
    let with_identity: Vec<u64> =
        requests.iter().filter(|one| one.source.has_identity()).map(|one| one.number).collect();
    assert_eq!(with_identity, [1, 2, 3, 4, 6]);
    // A history of a run without sockets.
    let line = r#"{"Sent":{"number":9,"source":"LiveEvent","sales":[]}}"#;
    assert!(serde_json::from_str::<Line>(line).is_ok());
    assert_eq!(requests[6].source.event_id(1).as_deref(), Some("frame-6-1"));
}

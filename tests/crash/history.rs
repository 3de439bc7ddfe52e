//! The checker's own history. Every request is written and synced to this file before it is sent, and its outcome
//! once it is known. A new checker continues from the file, however the previous one ended.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

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
    pub sent: usize,
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
}

impl History {
    /// Opens a history and reads it. An incomplete last line, left by a crash, is dropped: its request was not yet
    /// sent, or its outcome counts as unknown.
    pub fn open(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.set_len(whole as u64).unwrap();
        let mut state = State { file, lines: 0, known: BTreeMap::new() };
        for line in text[..whole].lines() {
            state.take(serde_json::from_str(line).unwrap());
        }
        Self { state: Mutex::new(state) }
    }

    pub fn sending(&self, request: &Request) {
        self.note(Line::Sent(request.clone()));
    }

    pub fn ended(&self, number: u64, outcome: Outcome) {
        self.note(Line::Ended(number, outcome));
    }

    fn note(&self, line: Line) {
        let mut text = serde_json::to_string(&line).unwrap();
        text.push('\n');
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.file.write_all(text.as_bytes()).unwrap();
        state.file.sync_data().unwrap();
        state.take(line);
    }

    /// Returns all requests, in the order of their numbers.
    pub fn requests(&self) -> Vec<KnownRequest> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.known.values().cloned().collect()
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
                let new = KnownRequest { request, sent: now, acknowledged: None, refused: false };
                // A refused request that is sent again may be stored after all.
                self.known.entry(new.request.number).or_insert(new).refused = false;
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
    let request = |number| Request { number, source: Source::LiveEvent, sales: Vec::new() };
    let history = History::open(&path);
    (0..3).for_each(|number| history.sending(&request(number)));
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

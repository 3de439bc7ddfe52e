//! The checker's own history: every request is written and synced here before it is sent, and its
//! outcome once that is known. Whatever ends the checker, it goes on from this file.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// The way in that a request takes, with the identity it carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// `POST /liveEvent`: nothing to be recognised by.
    LiveEvent,
    /// One object with an id.
    Object { id: String },
    /// An array with an `Idempotency-Key`.
    Array { key: String },
    /// Lines with `Millrace-Upload` and `Millrace-First-Line`.
    Lines { upload: String, first_line: u64 },
}

/// One event; amounts are in ten-thousandths, negative where they are taken away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sale {
    pub number: u64,
    pub user: String,
    pub units: i128,
    /// Letters that only make the event longer.
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
    /// The ids answered, where the door answers them.
    Acknowledged { ids: Vec<String> },
    /// An answer that promises that nothing was stored.
    Refused,
}

#[derive(Serialize, Deserialize)]
enum Line {
    Sent(Request),
    Ended(u64, Outcome),
}

/// What is known of one request. Times are lines of the history.
#[derive(Clone, Debug)]
pub struct Known {
    pub request: Request,
    pub sent: usize,
    /// The first acknowledgement, and when it came.
    pub acknowledged: Option<(usize, Vec<String>)>,
    pub refused: bool,
}

impl Known {
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
    known: BTreeMap<u64, Known>,
}

impl History {
    /// Reads what is there. A last line that was cut off by a crash speaks of a request that was not
    /// sent yet, or of an outcome that counts as unknown.
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

    /// By their numbers.
    pub fn requests(&self) -> Vec<Known> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.known.values().cloned().collect()
    }

    /// What a new request may be called.
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
                let new = Known { request, sent: now, acknowledged: None, refused: false };
                // Sent again, it may be stored after all.
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
fn a_history_cut_off_in_the_middle_is_read_up_to_its_last_whole_line() {
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
    let unknown: Vec<bool> = again.requests().iter().map(Known::is_unknown).collect();
    assert_eq!((unknown, again.next_number()), (vec![false, true, true], 3));
    again.ended(1, Outcome::Refused);
    assert!(History::open(&path).requests()[1].refused, "what is written after it stands by itself");
}

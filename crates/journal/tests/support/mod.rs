//! Shared by several tests: small logs with known content, and reading a whole log.
#![allow(dead_code)]

pub mod crash_run;

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::{Arc, Mutex};

use journal::simulation::{SimDisk, Stepper};
use journal::{AppendError, Disk, Frame, FrameKind, Journal, Options, ReadError, Recovery};

pub const FOLDER: &str = "/log";

pub fn folder() -> &'static Path {
    Path::new(FOLDER)
}

pub fn count(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).unwrap()
}

/// Options with segments of a few frames and groups of a few appends.
pub fn small() -> Options {
    Options { segment_bytes_max: 400, group_bytes_max: 150, ..Options::default() }
}

pub struct Open {
    pub journal: Journal,
    pub recovery: Recovery,
    pub stepper: Stepper,
}

pub fn open(disk: &SimDisk, options: Options) -> Result<Open, journal::OpenError> {
    let (opened, stepper) = Journal::open_stepped(disk.disk(), folder(), options)?;
    Ok(Open { journal: opened.journal, recovery: opened.recovery, stepper })
}

/// The content of one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub position: u64,
    pub count: u32,
    pub lost: bool,
    pub payload: Vec<u8>,
}

impl Entry {
    pub fn end(&self) -> u64 {
        self.position + u64::from(self.count)
    }
}

/// Reads the whole log in chunks of about `bytes_max`.
pub fn read_all(journal: &Journal, bytes_max: usize) -> Result<Vec<Entry>, ReadError> {
    let mut reader = journal.reader();
    let mut entries = Vec::new();
    let mut position = journal.begin();
    loop {
        let chunk = reader.read(position, bytes_max)?;
        if chunk.is_empty() {
            return Ok(entries);
        }
        for frame in chunk.frames() {
            assert_eq!(frame.position, position, "positions have no gap");
            position = frame.end();
            entries.push(Entry {
                position: frame.position,
                count: frame.count,
                lost: frame.kind == FrameKind::Lost,
                payload: frame.payload.to_vec(),
            });
        }
    }
}

pub type Answers = Arc<Mutex<Vec<Result<u64, AppendError>>>>;

/// Appends, and stores the answer in `answers`.
pub fn append(journal: &Journal, payload: &[u8], events: u32, answers: &Answers) {
    let answers = Arc::clone(answers);
    let done = move |answer| answers.lock().unwrap().push(answer);
    journal.append(payload, count(events), Box::new(done));
}

/// Appends, and waits for the answer.
pub fn append_wait(journal: &Journal, payload: &[u8]) -> Result<u64, AppendError> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let done = move |answer| sender.send(answer).unwrap();
    journal.append(payload, count(1), Box::new(done));
    receiver.recv().unwrap()
}

/// Returns a payload that differs from its neighbours, and contains zeros and repeated bytes.
pub fn payload(number: u64) -> Vec<u8> {
    let bytes = 3 + (number as usize * 7) % 40;
    (0..bytes).map(|at| ((at as u64 / 3) * (number + 1)) as u8).collect()
}

/// Creates a log of several segments, all of it acknowledged, and returns it with its content.
pub fn filled(entries: u64, clean: bool) -> (SimDisk, Vec<Entry>) {
    let (disk, log, content) = filled_and_open(entries);
    end(&disk, log, clean);
    (disk, content)
}

/// Like `filled`, but the oldest segments are trimmed and every third frame of the other sealed segments is blanked.
pub fn trimmed(entries: u64, clean: bool) -> (SimDisk, Vec<Entry>) {
    let (disk, mut log, content) = filled_and_open(entries);
    let segments = log.journal.segments();
    assert_eq!(log.stepper.trim(segments[2].first).unwrap(), segments[2].first);
    let sealed_end = segments.last().unwrap().first;
    let mut change =
        |frame: &Frame<'_>| frame.position.is_multiple_of(3).then(|| vec![b' '; frame.payload.len()]);
    let rewritten = log.journal.rewrite(0, sealed_end, &mut change).unwrap();
    assert!(rewritten.frames > 3 && rewritten.segments > 1);
    let left = read_all(&log.journal, 1000).unwrap();
    assert!(left.len() < content.len() && left.last() == content.last());
    end(&disk, log, clean);
    (disk, left)
}

fn end(disk: &SimDisk, log: Open, clean: bool) {
    if clean {
        log.stepper.close().unwrap();
    } else {
        drop(log);
        disk.kill();
    }
}

pub fn filled_and_open(entries: u64) -> (SimDisk, Open, Vec<Entry>) {
    let disk = SimDisk::new(7);
    let mut log = open(&disk, small()).unwrap();
    let Open { journal, stepper, .. } = &mut log;
    let answers = Answers::default();
    for number in 0..entries {
        append(journal, &payload(number), 1 + (number % 3) as u32, &answers);
        if number % 4 == 3 {
            while stepper.commit_waiting() {}
        }
    }
    while stepper.commit_waiting() {}
    assert_eq!(answers.lock().unwrap().len() as u64, entries);
    let content = read_all(journal, 1000).unwrap();
    assert_eq!(content.len() as u64, entries);
    (disk, log, content)
}

/// Opens a log on the real disk.
pub fn open_real(folder: &Path, options: Options) -> Journal {
    Journal::open(Disk::real(), folder, options).unwrap().journal
}

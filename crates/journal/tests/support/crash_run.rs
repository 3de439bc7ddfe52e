//! One seeded life story of a log: appends, faults, crashes, recoveries cut off by more
//! crashes; and the judge, who knows what was acknowledged.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use journal::simulation::{Chance, Forgetful};
use journal::{AppendError, OpenError, Options};

use super::{Entry, Open, count, open, read_all};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Break {
    Nothing,
    FileSyncs,
    FolderSyncs,
}

/// What one run comes to: the same seed, the same numbers.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub trace: u64,
    pub held: usize,
    pub failed_opens: u32,
    pub poisoned: u32,
    pub disk_full: u32,
    pub torn: u32,
}

type Answers = Arc<Mutex<Vec<(u64, Result<u64, AppendError>)>>>;

struct Story {
    chance: Chance,
    disk: Forgetful,
    /// Acknowledged, or seen in an open log: must be there for ever.
    held: Vec<Entry>,
    /// Handed over and neither acknowledged nor refused: a prefix may be there.
    uncertain: VecDeque<(u64, Entry)>,
    answers: Answers,
    next_serial: u64,
    faults: bool,
    clean_stop: bool,
    outcome: Outcome,
}

pub fn run(seed: u64, broken: Break) -> Result<Outcome, String> {
    let mut chance = Chance::new(seed);
    let disk = Forgetful::new(chance.draw());
    match broken {
        Break::Nothing => {}
        Break::FileSyncs => disk.ignore_file_syncs(),
        Break::FolderSyncs => disk.ignore_folder_syncs(),
    }
    let mut story = Story {
        chance,
        disk,
        held: Vec::new(),
        uncertain: VecDeque::new(),
        answers: Answers::default(),
        next_serial: 0,
        faults: false,
        clean_stop: false,
        outcome: Outcome::default(),
    };
    for _ in 0..2 + story.chance.below(6) {
        story.live()?;
    }
    story.disk.heal();
    story.faults = false;
    story.disk.crash();
    let last = story.open_checked()?.ok_or("no fault, and yet no open log")?;
    last.stepper.close().map_err(|error| format!("close: {error}"))?;
    story.outcome.trace = story.disk.trace();
    story.outcome.held = story.held.len();
    Ok(story.outcome)
}

impl Story {
    fn live(&mut self) -> Result<(), String> {
        self.plan_fault();
        if let Some(mut log) = self.open_checked()? {
            for _ in 0..self.chance.below(80) {
                self.step(&mut log)?;
            }
            if self.chance.times_in_100(25) {
                self.clean_stop = log.stepper.close().is_ok();
                self.hear()?;
            }
        }
        if self.chance.times_in_100(60) {
            self.disk.crash();
        } else {
            self.disk.kill();
        }
        Ok(())
    }

    fn plan_fault(&mut self) {
        self.faults = true;
        match self.chance.below(10) {
            0..=3 => {
                let within = if self.chance.times_in_100(40) { 14 } else { 120 };
                self.disk.die_at(1 + self.chance.below(within));
            }
            4 | 5 => self.disk.fail_sync(1 + self.chance.below(30)),
            6 => {
                let more = self.chance.below(3000);
                self.disk.set_capacity(Some(self.disk.used_bytes() + more));
            }
            _ => self.faults = false,
        }
    }

    fn options(&mut self) -> Options {
        Options {
            segment_bytes_max: 300 + self.chance.below(4000),
            group_bytes_max: 100 + self.chance.below(2500) as usize,
            queue_bytes_max: 6000,
            ..Options::default()
        }
    }

    /// Opens the log and judges what it holds. No log is right only if there was a fault.
    fn open_checked(&mut self) -> Result<Option<Open>, String> {
        let options = self.options();
        // An open that fails may have taken the clean stop's mark away already.
        let clean_stop = std::mem::take(&mut self.clean_stop);
        let log = match open(&self.disk, options) {
            Ok(log) => log,
            Err(OpenError::Io { .. }) if self.faults => {
                self.outcome.failed_opens += 1;
                return Ok(None);
            }
            Err(error) => return Err(format!("open: {error}")),
        };
        let bytes_max = 1 + self.chance.below(3000) as usize;
        let found = read_all(&log.journal, bytes_max).map_err(|error| format!("read: {error}"))?;
        let expected = self.held.iter().chain(self.uncertain.iter().map(|(_, entry)| entry));
        let right = found.iter().zip(expected).filter(|(a, b)| a == b).count();
        if right < found.len() {
            return Err(format!("frame {right} of {} is not what was appended", found.len()));
        }
        if found.len() < self.held.len() {
            let (found, held) = (found.len(), self.held.len());
            return Err(format!("{found} frames are there of {held} acknowledged"));
        }
        let end = found.last().map_or(0, Entry::end);
        if (log.journal.begin(), log.journal.end(), log.recovery.end) != (0, end, end) {
            return Err(format!("the log says it ends at {}, not {end}", log.journal.end()));
        }
        if clean_stop && (!log.recovery.clean_stop || log.recovery.torn_bytes_cut > 0) {
            return Err("a clean stop was forgotten".to_owned());
        }
        self.outcome.torn += u32::from(log.recovery.torn_bytes_cut > 0);
        self.held = found;
        self.uncertain.clear();
        Ok(Some(log))
    }

    fn step(&mut self, log: &mut Open) -> Result<(), String> {
        match self.chance.below(100) {
            0..55 => self.append(log),
            55..88 => {
                log.stepper.commit_waiting();
            }
            88..93 => log.stepper.idle(),
            93..95 => self.disk.set_capacity(None),
            _ => self.look(log)?,
        }
        self.hear()
    }

    fn append(&mut self, log: &Open) {
        let serial = self.next_serial;
        self.next_serial += 1;
        let bytes = if self.chance.times_in_100(15) { 2200 } else { 150 };
        let bytes = self.chance.below(bytes) as usize;
        let mut payload = serial.to_le_bytes().to_vec();
        payload.extend((0..bytes).map(|at| (serial as usize + at / 5) as u8));
        let events = 1 + self.chance.below(4) as u32;
        let position = match self.uncertain.back() {
            Some((_, entry)) => entry.end(),
            None => self.held.last().map_or(0, Entry::end),
        };
        let entry = Entry { position, count: events, lost: false, payload: payload.clone() };
        self.uncertain.push_back((serial, entry));
        let answers = Arc::clone(&self.answers);
        let done = move |answer| answers.lock().unwrap().push((serial, answer));
        log.journal.append(&payload, count(events), Box::new(done));
    }

    /// Takes in what the callers were told.
    fn hear(&mut self) -> Result<(), String> {
        let answers = std::mem::take(&mut *self.answers.lock().unwrap());
        for (serial, answer) in answers {
            match answer {
                Ok(position) => {
                    let (first, entry) = self.uncertain.pop_front().ok_or("a stray answer")?;
                    if (first, entry.position) != (serial, position) {
                        return Err(format!("append {serial} was answered out of order"));
                    }
                    self.held.push(entry);
                }
                // Refused for good: it must never be seen again.
                Err(AppendError::DiskFull | AppendError::QueueFull) => {
                    self.uncertain.retain(|(other, _)| *other != serial);
                    self.outcome.disk_full += u32::from(answer == Err(AppendError::DiskFull));
                }
                Err(AppendError::Poisoned { .. }) => self.outcome.poisoned += 1,
                Err(error) => return Err(format!("append {serial}: {error}")),
            }
        }
        Ok(())
    }

    /// Reads somewhere in the middle.
    fn look(&mut self, log: &Open) -> Result<(), String> {
        let Some(end) = self.held.last().map(Entry::end) else {
            return Ok(());
        };
        let position = self.chance.below(end);
        let mut reader = log.journal.reader();
        let chunk = match reader.read(position, 200) {
            Ok(chunk) => chunk,
            Err(journal::ReadError::Io { .. }) if self.faults => return Ok(()),
            Err(error) => return Err(format!("read at {position}: {error}")),
        };
        let at = self.held.partition_point(|entry| entry.end() <= position);
        let frame = chunk.frames().next().ok_or("an empty chunk below the end")?;
        if (frame.position, frame.payload) != (self.held[at].position, &*self.held[at].payload) {
            return Err(format!("position {position} reads wrong"));
        }
        Ok(())
    }
}

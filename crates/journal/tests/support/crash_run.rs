//! One simulated run of a log with random appends, seals, rewrites, trims, faults, crashes, and recoveries that are
//! interrupted by more crashes. A checker knows what was acknowledged and compares it with the log.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use journal::simulation::{Rng, SimDisk};
use journal::{AppendError, OpenError, Options, ReadError, Reader, RewriteError, TrimError, WriterError};

use super::{Entry, Open, count, open, read_all};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Break {
    Nothing,
    FileSyncs,
    FolderSyncs,
}

/// The counts of one run. The same seed gives the same numbers.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub trace: u64,
    pub durable: usize,
    pub failed_opens: u32,
    pub poisoned: u32,
    pub disk_full: u32,
    pub torn: u32,
    pub sealed: u32,
    pub erased: u32,
    pub trimmed: u32,
    /// Rewrites and trims that a fault interrupted.
    pub interrupted: u32,
}

/// The state of a frame whose payload was to be blanked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Erased {
    /// The rewrite failed, so the frame has either the old payload or the new one.
    Maybe,
    Done,
}

type Answers = Arc<Mutex<Vec<(u64, Result<u64, AppendError>)>>>;

struct Simulation {
    rng: Rng,
    disk: SimDisk,
    /// Entries that were acknowledged, or seen in an open log. They must never disappear.
    durable: Vec<Entry>,
    /// Entries that were neither acknowledged nor refused. The log may contain a prefix of them.
    uncertain: VecDeque<(u64, Entry)>,
    /// Blanked frames by position.
    erased: BTreeMap<u64, Erased>,
    /// The beginning of the log.
    begin: u64,
    /// The beginning that the log may have after a failed trim.
    begin_max: u64,
    /// A reader that stays open while the files of the log are replaced and removed.
    reader: Option<Reader>,
    answers: Answers,
    next_serial: u64,
    faults: bool,
    clean_stop: bool,
    outcome: Outcome,
}

/// Runs the simulation with this seed. Fails with the first difference that the checker finds.
pub fn run(seed: u64, broken: Break) -> Result<Outcome, String> {
    let mut rng = Rng::new(seed);
    let disk = SimDisk::new(rng.draw());
    match broken {
        Break::Nothing => {}
        Break::FileSyncs => disk.ignore_file_syncs(),
        Break::FolderSyncs => disk.ignore_folder_syncs(),
    }
    let mut simulation = Simulation {
        rng,
        disk,
        durable: Vec::new(),
        uncertain: VecDeque::new(),
        erased: BTreeMap::new(),
        begin: 0,
        begin_max: 0,
        reader: None,
        answers: Answers::default(),
        next_serial: 0,
        faults: false,
        clean_stop: false,
        outcome: Outcome::default(),
    };
    for _ in 0..2 + simulation.rng.below(6) {
        simulation.run_process()?;
    }
    simulation.disk.clear_faults();
    simulation.faults = false;
    simulation.disk.crash();
    let last = simulation.open_checked()?.ok_or("the log was not opened although there was no fault")?;
    last.stepper.close().map_err(|error| format!("close: {error}"))?;
    simulation.outcome.trace = simulation.disk.trace();
    simulation.outcome.durable = simulation.durable.len();
    Ok(simulation.outcome)
}

impl Simulation {
    /// Opens the log and uses it until a clean stop, a kill or a power cut.
    fn run_process(&mut self) -> Result<(), String> {
        self.plan_fault();
        if let Some(mut log) = self.open_checked()? {
            for _ in 0..self.rng.below(80) {
                self.step(&mut log)?;
            }
            if self.rng.times_in_100(25) {
                self.clean_stop = log.stepper.close().is_ok();
                self.take_answers()?;
            }
        }
        if self.rng.times_in_100(60) {
            self.disk.crash();
        } else {
            self.disk.kill();
        }
        Ok(())
    }

    fn plan_fault(&mut self) {
        self.faults = true;
        match self.rng.below(10) {
            0..=3 => {
                let within = if self.rng.times_in_100(40) { 14 } else { 120 };
                self.disk.die_at(1 + self.rng.below(within));
            }
            4 | 5 => self.disk.fail_sync(1 + self.rng.below(30)),
            6 => {
                let more = self.rng.below(3000);
                self.disk.set_capacity(Some(self.disk.used_bytes() + more));
            }
            _ => self.faults = false,
        }
    }

    fn options(&mut self) -> Options {
        Options {
            segment_bytes_max: 300 + self.rng.below(4000),
            group_bytes_max: 100 + self.rng.below(2500) as usize,
            queue_bytes_max: 6000,
            ..Options::default()
        }
    }

    /// Opens the log and checks its content. Returns `None` if open failed because of a planned fault.
    fn open_checked(&mut self) -> Result<Option<Open>, String> {
        let options = self.options();
        // An open that fails may already have overwritten the mark of the clean stop.
        let clean_stop = std::mem::take(&mut self.clean_stop);
        let log = match open(&self.disk, options) {
            Ok(log) => log,
            Err(OpenError::Io { .. }) if self.faults => {
                self.outcome.failed_opens += 1;
                return Ok(None);
            }
            Err(error) => return Err(format!("open: {error}")),
        };
        let bytes_max = 1 + self.rng.below(3000) as usize;
        self.take_begin(log.journal.begin())?;
        let found = read_all(&log.journal, bytes_max).map_err(|error| format!("read: {error}"))?;
        let expected = self.durable.iter().chain(self.uncertain.iter().map(|(_, entry)| entry));
        let pairs = found.iter().zip(expected);
        let correct = pairs.filter(|(frame, entry)| self.is_correct(frame, entry)).count();
        if correct < found.len() {
            return Err(format!("only {correct} of {} frames are what was appended", found.len()));
        }
        if found.len() < self.durable.len() {
            let (found, durable) = (found.len(), self.durable.len());
            return Err(format!("the log has {found} frames, but {durable} were acknowledged"));
        }
        let end = found.last().map_or(self.begin, Entry::end);
        if (log.recovery.begin, log.journal.end(), log.recovery.end) != (self.begin, end, end) {
            return Err(format!("the log ends at {} instead of {end}", log.journal.end()));
        }
        if clean_stop && (!log.recovery.clean_stop || log.recovery.torn_bytes_cut > 0) {
            return Err("the clean stop was not recorded".to_owned());
        }
        self.outcome.torn += u32::from(log.recovery.torn_bytes_cut > 0);
        let seen = self.uncertain.drain(..).map(|(_, entry)| entry);
        let more = found.len() - self.durable.len();
        self.durable.extend(seen.take(more));
        self.reader = Some(log.journal.reader());
        Ok(Some(log))
    }

    fn step(&mut self, log: &mut Open) -> Result<(), String> {
        match self.rng.below(100) {
            0..50 => self.append(log),
            50..78 => {
                log.stepper.commit_waiting();
            }
            78..82 => log.stepper.idle(),
            82..84 => self.disk.set_capacity(None),
            84..87 => self.seal(log)?,
            87..92 => self.rewrite(log)?,
            92..94 => self.trim(log)?,
            _ => self.read_one(log)?,
        }
        self.take_answers()
    }

    fn append(&mut self, log: &Open) {
        let serial = self.next_serial;
        self.next_serial += 1;
        let bytes = if self.rng.times_in_100(15) { 2200 } else { 150 };
        let bytes = self.rng.below(bytes) as usize;
        let mut payload = serial.to_le_bytes().to_vec();
        payload.extend((0..bytes).map(|at| (serial as usize + at / 5) as u8));
        let events = 1 + self.rng.below(4) as u32;
        let position = match self.uncertain.back() {
            Some((_, entry)) => entry.end(),
            None => self.end(),
        };
        let entry = Entry { position, count: events, lost: false, payload: payload.clone() };
        self.uncertain.push_back((serial, entry));
        let answers = Arc::clone(&self.answers);
        let done = move |answer| answers.lock().unwrap().push((serial, answer));
        log.journal.append(&payload, count(events), Box::new(done));
    }

    /// Records the answers to the appends.
    fn take_answers(&mut self) -> Result<(), String> {
        let answers = std::mem::take(&mut *self.answers.lock().unwrap());
        for (serial, answer) in answers {
            match answer {
                Ok(position) => {
                    let (first, entry) = self.uncertain.pop_front().ok_or("an unexpected answer")?;
                    if (first, entry.position) != (serial, position) {
                        return Err(format!("append {serial} was answered out of order"));
                    }
                    self.durable.push(entry);
                }
                // A refused append must never appear in the log.
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

    /// The position after the last durable entry.
    fn end(&self) -> u64 {
        self.durable.last().map_or(self.begin, Entry::end)
    }

    /// Checks and records the beginning of the log.
    fn take_begin(&mut self, begin: u64) -> Result<(), String> {
        if begin < self.begin || begin > self.begin_max {
            return Err(format!("the log begins at {begin}, not from {} to {}", self.begin, self.begin_max));
        }
        (self.begin, self.begin_max) = (begin, begin);
        self.durable.retain(|entry| entry.position >= begin);
        self.erased = self.erased.split_off(&begin);
        Ok(())
    }

    fn is_correct(&self, found: &Entry, expected: &Entry) -> bool {
        let blank = Entry { payload: vec![b' '; expected.payload.len()], ..expected.clone() };
        match self.erased.get(&expected.position) {
            None => found == expected,
            Some(Erased::Maybe) => found == expected || *found == blank,
            Some(Erased::Done) => *found == blank,
        }
    }

    fn seal(&mut self, log: &mut Open) -> Result<(), String> {
        match log.stepper.seal() {
            Ok(sealed_end) if sealed_end == self.end() => self.outcome.sealed += 1,
            Ok(sealed_end) => return Err(format!("sealed up to {sealed_end} instead of {}", self.end())),
            Err(WriterError::DiskFull | WriterError::Poisoned { .. }) if self.faults => {}
            Err(error) => return Err(format!("seal: {error}")),
        }
        Ok(())
    }

    /// Blanks random frames in a random range of the sealed part.
    fn rewrite(&mut self, log: &mut Open) -> Result<(), String> {
        let sealed_end = log.journal.segments().last().map_or(0, |segment| segment.first);
        let from = self.begin + self.rng.below(sealed_end - self.begin + 1);
        let until = from + self.rng.below(sealed_end - from + 1);
        let within = |entry: &&Entry| from < until && entry.position < until && from < entry.end();
        let within = self.durable.iter().filter(within);
        let within: Vec<u64> = within.map(|entry| entry.position).collect();
        let chosen: BTreeSet<u64> = within.into_iter().filter(|_| self.rng.times_in_100(20)).collect();
        if self.rng.times_in_100(10) {
            let outcome = log.journal.rewrite(from, until, &mut |_| Some(Vec::new()));
            let refused = matches!(
                outcome,
                Err(RewriteError::OtherLength { .. } | RewriteError::Io { .. } | RewriteError::Writer { .. })
            );
            return if refused || from == until { Ok(()) } else { Err(format!("other length: {outcome:?}")) };
        }
        let blank = |frame: &journal::Frame<'_>| vec![b' '; frame.payload.len()];
        let mut change = |frame: &journal::Frame<'_>| chosen.contains(&frame.position).then(|| blank(frame));
        let outcome = log.journal.rewrite(from, until, &mut change);
        match outcome {
            Ok(rewritten) if rewritten.frames == chosen.len() as u64 => {
                self.erased.extend(chosen.iter().map(|position| (*position, Erased::Done)));
                self.outcome.erased += chosen.len() as u32;
            }
            Err(RewriteError::Io { .. } | RewriteError::Writer { .. }) if self.faults => {
                chosen.iter().for_each(|position| {
                    self.erased.entry(*position).or_insert(Erased::Maybe);
                });
                self.outcome.interrupted += 1;
            }
            outcome => return Err(format!("rewrite of {}: {outcome:?}", chosen.len())),
        }
        Ok(())
    }

    fn trim(&mut self, log: &mut Open) -> Result<(), String> {
        let before = self.begin + self.rng.below(self.end() - self.begin + 3);
        let mut firsts = log.journal.segments().into_iter().map(|segment| segment.first);
        let expected = firsts.rfind(|first| *first <= before).unwrap_or(self.begin);
        let outcome = log.stepper.trim(before);
        self.begin_max = self.begin_max.max(expected);
        let begin = log.journal.begin();
        match outcome {
            Ok(trimmed) if (trimmed, begin) == (expected, expected) => {
                self.outcome.trimmed += u32::from(expected > self.begin);
                self.take_begin(begin)?;
            }
            // The new beginning is durable, although files below it may be left.
            Err(TrimError::Io { .. }) if self.faults && begin == expected => {
                self.outcome.interrupted += 1;
                self.take_begin(begin)?;
            }
            Err(TrimError::Writer { .. }) if self.faults && begin == self.begin => {
                self.outcome.interrupted += 1;
            }
            outcome => return Err(format!("trim to {expected}: {outcome:?}, begin {begin}")),
        }
        Ok(())
    }

    /// Reads at a random position, usually with the reader that is open since the log was opened.
    fn read_one(&mut self, log: &Open) -> Result<(), String> {
        let end = self.end();
        if end == 0 {
            return Ok(());
        }
        let position = self.rng.below(end);
        let kept = self.reader.take().filter(|_| self.rng.times_in_100(90));
        let mut reader = kept.unwrap_or_else(|| log.journal.reader());
        let read = reader.read(position, 200).map(|chunk| {
            let frame = chunk.frames().next().expect("a chunk below the end contains a frame");
            let payload = frame.payload.to_vec();
            Entry { position: frame.position, count: frame.count, lost: false, payload }
        });
        self.reader = Some(reader);
        match read {
            Err(ReadError::BelowBegin { begin, .. }) if position < begin && begin == self.begin => {}
            Err(ReadError::Io { .. }) if self.faults => {}
            Err(error) => return Err(format!("read at {position}: {error}")),
            Ok(found) => {
                let at = self.durable.partition_point(|entry| entry.end() <= position);
                if position < self.begin || !self.is_correct(&found, &self.durable[at]) {
                    return Err(format!("a read at position {position} returned a wrong frame"));
                }
            }
        }
        Ok(())
    }
}

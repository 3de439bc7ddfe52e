//! One seeded life story of a log: appends, seals, rewrites, trims, faults, crashes, recoveries cut off by
//! more crashes; and the judge, who knows what was acknowledged.

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

/// What one run comes to: the same seed, the same numbers.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub trace: u64,
    pub held: usize,
    pub failed_opens: u32,
    pub poisoned: u32,
    pub disk_full: u32,
    pub torn: u32,
    pub sealed: u32,
    pub erased: u32,
    pub trimmed: u32,
    /// Rewrites and trims that a fault cut off.
    pub cut_off: u32,
}

/// What a frame holds since somebody asked for its payload to be blanked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Erased {
    /// The rewrite failed: the old payload or the new one.
    Perhaps,
    Surely,
}

type Answers = Arc<Mutex<Vec<(u64, Result<u64, AppendError>)>>>;

struct Story {
    rng: Rng,
    disk: SimDisk,
    /// Acknowledged, or seen in an open log: must be there for ever.
    held: Vec<Entry>,
    /// Handed over and neither acknowledged nor refused: a prefix may be there.
    uncertain: VecDeque<(u64, Entry)>,
    /// By position.
    erased: BTreeMap<u64, Erased>,
    /// Where the log begins, and where it may begin if a trim failed.
    begin: u64,
    begin_perhaps: u64,
    /// Kept through whatever happens to the files it holds open.
    reader: Option<Reader>,
    answers: Answers,
    next_serial: u64,
    faults: bool,
    clean_stop: bool,
    outcome: Outcome,
}

pub fn run(seed: u64, broken: Break) -> Result<Outcome, String> {
    let mut rng = Rng::new(seed);
    let disk = SimDisk::new(rng.draw());
    match broken {
        Break::Nothing => {}
        Break::FileSyncs => disk.ignore_file_syncs(),
        Break::FolderSyncs => disk.ignore_folder_syncs(),
    }
    let mut story = Story {
        rng,
        disk,
        held: Vec::new(),
        uncertain: VecDeque::new(),
        erased: BTreeMap::new(),
        begin: 0,
        begin_perhaps: 0,
        reader: None,
        answers: Answers::default(),
        next_serial: 0,
        faults: false,
        clean_stop: false,
        outcome: Outcome::default(),
    };
    for _ in 0..2 + story.rng.below(6) {
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
            for _ in 0..self.rng.below(80) {
                self.step(&mut log)?;
            }
            if self.rng.times_in_100(25) {
                self.clean_stop = log.stepper.close().is_ok();
                self.hear()?;
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
        let bytes_max = 1 + self.rng.below(3000) as usize;
        self.take_begin(log.journal.begin())?;
        let found = read_all(&log.journal, bytes_max).map_err(|error| format!("read: {error}"))?;
        let expected = self.held.iter().chain(self.uncertain.iter().map(|(_, entry)| entry));
        let right = found.iter().zip(expected).filter(|(found, due)| self.is_right(found, due)).count();
        if right < found.len() {
            return Err(format!("frame {right} of {} is not what was appended", found.len()));
        }
        if found.len() < self.held.len() {
            let (found, held) = (found.len(), self.held.len());
            return Err(format!("{found} frames are there of {held} acknowledged"));
        }
        let end = found.last().map_or(self.begin, Entry::end);
        if (log.recovery.begin, log.journal.end(), log.recovery.end) != (self.begin, end, end) {
            return Err(format!("the log says it ends at {}, not {end}", log.journal.end()));
        }
        if clean_stop && (!log.recovery.clean_stop || log.recovery.torn_bytes_cut > 0) {
            return Err("a clean stop was forgotten".to_owned());
        }
        self.outcome.torn += u32::from(log.recovery.torn_bytes_cut > 0);
        let seen = self.uncertain.drain(..).map(|(_, entry)| entry);
        let more = found.len() - self.held.len();
        self.held.extend(seen.take(more));
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
            _ => self.look(log)?,
        }
        self.hear()
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

    /// Where the acknowledged part of the log ends.
    fn end(&self) -> u64 {
        self.held.last().map_or(self.begin, Entry::end)
    }

    /// The log says that it begins here.
    fn take_begin(&mut self, begin: u64) -> Result<(), String> {
        if begin < self.begin || begin > self.begin_perhaps {
            return Err(format!("it begins at {begin}, not at {} or {}", self.begin, self.begin_perhaps));
        }
        (self.begin, self.begin_perhaps) = (begin, begin);
        self.held.retain(|entry| entry.position >= begin);
        self.erased = self.erased.split_off(&begin);
        Ok(())
    }

    fn is_right(&self, found: &Entry, due: &Entry) -> bool {
        let blank = Entry { payload: vec![b' '; due.payload.len()], ..due.clone() };
        match self.erased.get(&due.position) {
            None => found == due,
            Some(Erased::Perhaps) => found == due || *found == blank,
            Some(Erased::Surely) => *found == blank,
        }
    }

    fn seal(&mut self, log: &mut Open) -> Result<(), String> {
        match log.stepper.seal() {
            Ok(sealed_end) if sealed_end == self.end() => self.outcome.sealed += 1,
            Ok(sealed_end) => return Err(format!("sealed up to {sealed_end} of {}", self.end())),
            Err(WriterError::DiskFull | WriterError::Poisoned { .. }) if self.faults => {}
            Err(error) => return Err(format!("seal: {error}")),
        }
        Ok(())
    }

    /// Blanks some of the frames in some part of what is sealed.
    fn rewrite(&mut self, log: &mut Open) -> Result<(), String> {
        let sealed_end = log.journal.segments().last().map_or(0, |segment| segment.first);
        let from = self.begin + self.rng.below(sealed_end - self.begin + 1);
        let until = from + self.rng.below(sealed_end - from + 1);
        let within = |entry: &&Entry| from < until && entry.position < until && from < entry.end();
        let within = self.held.iter().filter(within);
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
                self.erased.extend(chosen.iter().map(|position| (*position, Erased::Surely)));
                self.outcome.erased += chosen.len() as u32;
            }
            Err(RewriteError::Io { .. } | RewriteError::Writer { .. }) if self.faults => {
                chosen.iter().for_each(|position| {
                    self.erased.entry(*position).or_insert(Erased::Perhaps);
                });
                self.outcome.cut_off += 1;
            }
            outcome => return Err(format!("rewrite of {}: {outcome:?}", chosen.len())),
        }
        Ok(())
    }

    fn trim(&mut self, log: &mut Open) -> Result<(), String> {
        let before = self.begin + self.rng.below(self.end() - self.begin + 3);
        let mut firsts = log.journal.segments().into_iter().map(|segment| segment.first);
        let due = firsts.rfind(|first| *first <= before).unwrap_or(self.begin);
        let outcome = log.stepper.trim(before);
        self.begin_perhaps = self.begin_perhaps.max(due);
        let begin = log.journal.begin();
        match outcome {
            Ok(trimmed) if (trimmed, begin) == (due, due) => {
                self.outcome.trimmed += u32::from(due > self.begin);
                self.take_begin(begin)?;
            }
            // It begins there durably, though files may be left.
            Err(TrimError::Io { .. }) if self.faults && begin == due => {
                self.outcome.cut_off += 1;
                self.take_begin(begin)?;
            }
            Err(TrimError::Writer { .. }) if self.faults && begin == self.begin => {
                self.outcome.cut_off += 1;
            }
            outcome => return Err(format!("trim to {due}: {outcome:?}, begin {begin}")),
        }
        Ok(())
    }

    /// Reads somewhere in the middle, with a reader as old as the log is open or with a new one.
    fn look(&mut self, log: &Open) -> Result<(), String> {
        let end = self.end();
        if end == 0 {
            return Ok(());
        }
        let position = self.rng.below(end);
        let kept = self.reader.take().filter(|_| self.rng.times_in_100(90));
        let mut reader = kept.unwrap_or_else(|| log.journal.reader());
        let read = reader.read(position, 200).map(|chunk| {
            let frame = chunk.frames().next().expect("a chunk below the end holds a frame");
            let payload = frame.payload.to_vec();
            Entry { position: frame.position, count: frame.count, lost: false, payload }
        });
        self.reader = Some(reader);
        match read {
            Err(ReadError::BelowBegin { begin, .. }) if position < begin && begin == self.begin => {}
            Err(ReadError::Io { .. }) if self.faults => {}
            Err(error) => return Err(format!("read at {position}: {error}")),
            Ok(found) => {
                let at = self.held.partition_point(|entry| entry.end() <= position);
                if position < self.begin || !self.is_right(&found, &self.held[at]) {
                    return Err(format!("position {position} reads wrong"));
                }
            }
        }
        Ok(())
    }
}

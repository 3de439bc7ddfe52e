//! Group commit: takes a group from the queue, writes it, syncs it, and only then
//! tells anybody. A plain struct with steps, so that the simulation drives the very
//! code that the thread loops over.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::command::{Work, WriterError};
use crate::disk::{Disk, DiskError, DiskFile, Lock};
use crate::durable_mark::{Mark, MarkFile};
use crate::failpoint;
use crate::files_check::{FILES_CHECK_INTERVAL, FilesCheck};
use crate::journal::{CloseError, Shared};
use crate::queue::{AppendError, Closing, Group, Woken};
use crate::segment::{Place, SEGMENT_HEADER_BYTES, Segment, SegmentHeader, file_name, write_whole};
use crate::{Observer, Signal};

/// Without appends for so long, the durable mark is synced.
const IDLE_AFTER: Duration = Duration::from_millis(50);
/// From here on a sync is slow enough to wait for company: for which part of its time at most, and for which
/// part of it without any that comes.
const GATHER_SYNC_MIN: Duration = Duration::from_millis(1);
const GATHER_SYNC_SHARE: u32 = 2;
const GATHER_PAUSE_SHARE: u32 = 16;
/// One stalled sync is no reason to keep the next append waiting for long.
const GATHER_MAX: Duration = Duration::from_millis(5);

pub(crate) struct Writer {
    pub shared: Arc<Shared>,
    pub disk: Disk,
    pub folder: PathBuf,
    pub observer: Observer,
    pub segment_bytes_max: u64,
    pub segment: Arc<Segment>,
    pub file: DiskFile,
    /// The segment's bytes that are written and synced.
    pub synced_bytes: u64,
    /// A group that ends before this has no room made for it: zeros lie there, as far as there was room for
    /// them and the segment goes.
    pub preallocated_bytes: u64,
    /// The position after the last synced event.
    pub end: u64,
    pub mark: MarkFile,
    /// How long the last sync took, and how many appends there will be when all that it answered are followed
    /// by their next.
    pub sync_time: Duration,
    pub expected: usize,
    pub poisoned: Option<String>,
    pub checked: FilesCheck,
    /// Freed when the writer ends.
    pub lock: Lock,
}

pub(crate) enum Failure {
    /// There was no room; everything is as before the group.
    Full,
    /// Nobody can say what is on the disk.
    Poisoned(String),
}

impl From<DiskError> for Failure {
    fn from(error: DiskError) -> Self {
        Self::Poisoned(error.line())
    }
}

impl Writer {
    /// What the thread does all its life.
    pub(crate) fn run(mut self) -> Result<(), CloseError> {
        let queue = Arc::clone(&self.shared);
        let _guard = PanicGuard(&queue);
        loop {
            self.run_errand();
            self.check_files_in_time();
            self.gather();
            if self.commit_waiting() {
                continue;
            }
            let idle_after = if self.mark.is_unsynced() { IDLE_AFTER } else { FILES_CHECK_INTERVAL };
            match self.shared.queue.wait(idle_after) {
                Woken::Work => {}
                Woken::Idle => self.idle(),
                Woken::Closing(closing) => return self.stop(closing),
            }
        }
    }

    /// Callers who send their next append once they have an answer come back in a bunch: the first of
    /// them waits a little for the others, or it would take a sync for itself and they the next.
    fn gather(&mut self) {
        // Next to a fast sync, waiting costs more than it saves.
        if self.sync_time < GATHER_SYNC_MIN || self.expected == 0 {
            return;
        }
        if self.shared.queue.waiting() > 0 {
            let time = (self.sync_time / GATHER_SYNC_SHARE).min(GATHER_MAX);
            self.shared.queue.gather(self.expected, time, self.sync_time / GATHER_PAUSE_SHARE);
        }
    }

    /// Commits the oldest group; false if nothing waits.
    pub(crate) fn commit_waiting(&mut self) -> bool {
        let Some(mut group) = self.shared.queue.take() else {
            return false;
        };
        match self.commit(&group) {
            Ok(()) => {
                let marked = self.record_mark(false);
                failpoint::hit("journal.marked");
                self.expected = self.shared.queue.waiting() + group.waiters.len();
                // Synced, and shown to readers: it is in the log for good, whatever became of the mark.
                group.acknowledge();
                failpoint::hit("journal.acknowledged");
                if let Err(error) = marked {
                    self.poison(None, error.line());
                }
            }
            Err(Failure::Full) => self.refuse_for_space(&mut group),
            Err(Failure::Poisoned(reason)) => self.poison(Some(&mut group), reason),
        }
        self.shared.queue.recycle(group);
        true
    }

    /// Uses a quiet moment to make the durable mark survive a power cut too.
    pub(crate) fn idle(&mut self) {
        self.expected = 0;
        if self.poisoned.is_none()
            && let Err(error) = self.mark.sync()
        {
            self.poison(None, error.line());
        }
    }

    /// The end: everything that waited is written by now.
    pub(crate) fn stop(mut self, closing: Closing) -> Result<(), CloseError> {
        if self.poisoned.is_none() && closing == Closing::Clean {
            failpoint::hit("journal.stop");
            self.check_files();
        }
        if self.poisoned.is_none()
            && closing == Closing::Clean
            && let Err(Failure::Poisoned(reason)) = self.stop_cleanly()
        {
            self.poison(None, reason);
        }
        match self.poisoned.take() {
            Some(reason) => Err(CloseError::Poisoned { reason }),
            None => Ok(()),
        }
    }

    fn stop_cleanly(&mut self) -> Result<(), Failure> {
        match self.give_room_back() {
            // Zeros behind the last frame are nothing that an open minds.
            Err(Failure::Full) => {}
            given => given?,
        }
        self.record_mark(true)?;
        Ok(self.mark.sync()?)
    }

    /// Does what somebody waits for besides appends.
    fn run_errand(&mut self) {
        if let Some(command) = self.shared.queue.take_errand() {
            let outcome = self.perform(command.work);
            command.answer(outcome);
        }
    }

    pub(crate) fn perform(&mut self, work: Work) -> Result<u64, WriterError> {
        if let Some(reason) = self.poisoned.clone() {
            return Err(WriterError::Poisoned { reason });
        }
        let done = match work {
            Work::Seal => self.seal(),
            Work::BeginAt(begin) => self.begin_at(begin),
        };
        done.map_err(|failure| match failure {
            Failure::Full => WriterError::DiskFull,
            Failure::Poisoned(reason) => {
                self.poison(None, reason.clone());
                WriterError::Poisoned { reason }
            }
        })
    }

    /// Answers where the sealed part of the log ends.
    fn seal(&mut self) -> Result<u64, Failure> {
        if self.synced_bytes > SEGMENT_HEADER_BYTES as u64 {
            self.start_segment()?;
        }
        failpoint::hit("journal.sealed");
        Ok(self.segment.first)
    }

    /// Moves the log's beginning, durably: only then may a segment below it go. Both slots of the mark
    /// have to say so, or a torn write could bring back one that knows the segments as being there.
    fn begin_at(&mut self, begin: u64) -> Result<u64, Failure> {
        for _ in 0..2 {
            if !self.mark.record(self.mark_with(begin, false))? {
                return Err(Failure::Full);
            }
            self.mark.sync()?;
        }
        failpoint::hit("journal.trim_marked");
        self.shared.begin_at(begin);
        Ok(begin)
    }

    fn commit(&mut self, group: &Group) -> Result<(), Failure> {
        if group.first != self.end {
            // A defect of ours; written, it would be damage for ever.
            let (due, found) = (self.end, group.first);
            let reason = format!("position {found} was queued where {due} is due");
            return Err(Failure::Poisoned(reason));
        }
        let full = self.synced_bytes + group.bytes.len() as u64 > self.segment_bytes_max;
        if full && self.synced_bytes > SEGMENT_HEADER_BYTES as u64 {
            self.start_segment()?;
        }
        // Written behind a cut, the group would be found behind a hole, or not at all.
        self.file.expect_in_place(&self.disk, self.synced_bytes)?;
        self.preallocate(group.bytes.len() as u64)?;
        self.write(group)?;
        let begun = Instant::now();
        failpoint::hit("journal.sync");
        self.file.sync()?;
        failpoint::hit("journal.synced");
        self.sync_time = begun.elapsed();
        // The next open reads the file that the path names.
        self.file.expect_in_place(&self.disk, self.synced_bytes + group.bytes.len() as u64)?;
        self.publish(group);
        Ok(())
    }

    fn write(&mut self, group: &Group) -> Result<(), Failure> {
        failpoint::hit("journal.write");
        let written = self.file.write_at(&group.bytes, self.synced_bytes);
        failpoint::hit("journal.written");
        match written {
            Err(error) if error.is_full() => {
                failpoint::hit("journal.cut_back");
                self.file.cut_to(self.synced_bytes)?;
                // Without this sync a power cut could bring back a part of the group
                // after its callers were told that it was refused.
                self.file.sync()?;
                Err(Failure::Full)
            }
            outcome => Ok(outcome?),
        }
    }

    /// Lets readers and everybody else see what was just synced.
    fn publish(&mut self, group: &Group) {
        let start = self.synced_bytes;
        self.segment.note(
            group
                .waiters
                .iter()
                .map(|waiter| Place { position: waiter.position, offset: start + waiter.offset as u64 }),
        );
        self.synced_bytes += group.bytes.len() as u64;
        self.end = group.end;
        self.segment.set_durable_bytes(self.synced_bytes);
        self.shared.advance(self.end, group.bytes.len() as u64);
        (self.observer)(Signal::Durable { end: self.end, sync_time: self.sync_time });
    }

    /// Seals the segment, all of which is synced, and begins the next. A name in the
    /// folder always stands for a whole header: nothing is acknowledged into a segment
    /// before its name is durable.
    fn start_segment(&mut self) -> Result<(), Failure> {
        failpoint::hit("journal.seal");
        // Begun in a folder that was put in its place, the segment would be part of another log.
        self.disk.expect_folder(&self.folder, &self.lock)?;
        self.give_room_back()?;
        failpoint::hit("journal.room_given_back");
        self.mark.sync()?;
        let header =
            SegmentHeader { log_id: self.shared.log_id, first: self.end, previous_bytes: self.synced_bytes };
        let name = file_name(self.end);
        let failpoints = ["journal.segment_created", "journal.segment_renamed"];
        let bytes = header.to_bytes();
        let names = self.shared.names();
        let created = write_whole(&self.disk, &self.folder, &name, &bytes, failpoints);
        drop(names);
        self.file = match created {
            Err(error) if error.is_full() => {
                // It takes room that others may need; open would remove it too.
                let _ = self.disk.remove(&self.folder.join(format!("{name}.tmp")));
                return Err(Failure::Full);
            }
            created => created?,
        };
        self.synced_bytes = SEGMENT_HEADER_BYTES as u64;
        self.preallocated_bytes = self.synced_bytes;
        let path = self.folder.join(name);
        let segment = Segment::new(self.end, path, self.synced_bytes, Vec::new());
        self.segment = Arc::new(segment);
        self.shared.add_segment(Arc::clone(&self.segment), self.synced_bytes);
        Ok(())
    }

    fn record_mark(&mut self, clean_stop: bool) -> Result<(), DiskError> {
        let mark = self.mark_with(self.shared.begin(), clean_stop);
        // Where there is no room for it, on a file system that copies on write, the evidence lags
        // behind, which is allowed. The other slot still stands.
        self.mark.record(mark).map(drop)
    }

    fn mark_with(&self, begin: u64, clean_stop: bool) -> Mark {
        Mark {
            log_id: self.shared.log_id,
            sequence: 0,
            begin,
            end: self.end,
            segment_first: self.segment.first,
            offset: self.synced_bytes,
            clean_stop,
        }
    }

    /// The group, and all that was queued behind it with positions that follow on it,
    /// is refused; the positions are given out again.
    fn refuse_for_space(&mut self, group: &mut Group) {
        let behind = self.shared.queue.restart_at(self.end);
        group.refuse(&AppendError::DiskFull);
        for mut group in behind {
            group.refuse(&AppendError::DiskFull);
        }
    }

    /// After a failed sync the kernel may show bytes that never reached the disk and say
    /// yes to the next sync: nothing this process could do would make its yes true again.
    pub(crate) fn poison(&mut self, group: Option<&mut Group>, reason: String) {
        let refusal = AppendError::Poisoned { reason: reason.clone() };
        let behind = self.shared.queue.refuse_all(refusal.clone());
        self.poisoned = Some(reason.clone());
        (self.observer)(Signal::Poisoned { reason });
        if let Some(group) = group {
            group.refuse(&refusal);
        }
        for mut group in behind {
            group.refuse(&refusal);
        }
    }
}

impl Drop for Writer {
    /// Whoever rewrites or trims works in the folder too: it is given free after that, not before.
    fn drop(&mut self) {
        drop(self.shared.upkeep());
    }
}

/// A defect that panics in the writer must not leave callers waiting for ever.
struct PanicGuard<'a>(&'a Shared);

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let refusal = AppendError::Poisoned { reason: "the journal's writer panicked".to_owned() };
            for mut group in self.0.queue.refuse_all(refusal.clone()) {
                group.refuse(&refusal);
            }
        }
    }
}

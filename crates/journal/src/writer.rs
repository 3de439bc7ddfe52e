//! Group commit: takes a group from the queue, writes it, syncs it, and only then acknowledges it. The writer is a
//! plain struct with steps, so that the simulation runs the same code as the thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::close_error::CloseError;
use crate::disk::{DiskError, DiskFile, Lock};
use crate::durable_mark::{Mark, MarkFile};
use crate::files_check::{FILES_CHECK_INTERVAL, FilesCheck};
use crate::log_state::LogState;
use crate::queue::{AppendError, Closing, Group, Woken};
use crate::segment::{Location, SEGMENT_HEADER_BYTES, Segment, SegmentHeader, file_name, write_whole};
use crate::writer_command::{Work, WriterError};
use crate::{Observer, Signal};

/// The durable mark is synced after this time without appends.
const IDLE_AFTER: Duration = Duration::from_millis(50);
/// If a sync takes at least this long, the next commit is delayed to batch more appends.
const GATHER_SYNC_MIN: Duration = Duration::from_millis(1);
/// The delay is at most the time of the last sync divided by this.
const GATHER_SYNC_SHARE: u32 = 2;
/// The delay ends early after a pause without appends: the time of the last sync divided by this.
const GATHER_PAUSE_SHARE: u32 = 16;
/// The longest delay, so that one very slow sync does not delay the next append much.
const GATHER_MAX: Duration = Duration::from_millis(5);

pub(crate) struct Writer {
    pub shared: Arc<LogState>,
    pub observer: Observer,
    pub segment_bytes_max: u64,
    pub segment: Arc<Segment>,
    pub file: DiskFile,
    /// The number of synced bytes of the segment.
    pub synced_bytes: u64,
    /// Space is preallocated up to this offset, so a group that ends below needs none. The space may be shorter if
    /// the disk was full or the segment ends before.
    pub preallocated_bytes: u64,
    /// The position after the last synced event.
    pub end: u64,
    pub mark: MarkFile,
    /// How long the last sync took.
    pub sync_time: Duration,
    /// The number of appends that will be queued if every caller that was just answered sends its next one.
    pub expected: usize,
    pub poisoned: Option<String>,
    pub files_check: FilesCheck,
    /// Released when the writer ends.
    pub lock: Lock,
}

pub(crate) enum Failure {
    /// The disk is full. The log is as it was before the group.
    Full,
    /// It is unknown which bytes are on the disk.
    Poisoned(String),
}

impl From<DiskError> for Failure {
    fn from(error: DiskError) -> Self {
        Self::Poisoned(error.line())
    }
}

impl Writer {
    /// Poisons the log if one of its files is not at its path, or is too short.
    fn check_files(&mut self) {
        if let Err(error) = self.expect_files_at_paths() {
            self.poison(None, error.line());
        }
    }

    fn expect_files_at_paths(&mut self) -> Result<(), DiskError> {
        self.shared.disk.expect_folder(&self.shared.folder, &self.lock)?;
        self.file.expect_at_path(&self.shared.disk, self.synced_bytes)?;
        self.mark.expect_at_path(&self.shared.disk)?;
        self.files_check.expect_sealed(&self.shared)
    }

    /// Runs the loop of the writer thread until the log is closed.
    pub(crate) fn run(mut self) -> Result<(), CloseError> {
        let queue = Arc::clone(&self.shared);
        let _guard = PanicGuard(&queue);
        loop {
            if let Some(command) = self.shared.queue.take_command() {
                let outcome = self.perform(command.work);
                command.answer(outcome);
            }
            if self.poisoned.is_none() && self.files_check.is_due() {
                self.check_files();
            }
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

    /// Delays the commit until the expected appends are queued. Callers that wait for an answer before their next
    /// append all return at once after a sync. Without the delay, the first append would use a whole sync, and the
    /// others would have to wait for the next one.
    fn gather(&mut self) {
        // If syncs are fast, waiting costs more than it saves.
        if self.sync_time < GATHER_SYNC_MIN || self.expected == 0 {
            return;
        }
        if self.shared.queue.waiting() > 0 {
            let time = (self.sync_time / GATHER_SYNC_SHARE).min(GATHER_MAX);
            self.shared.queue.gather(self.expected, time, self.sync_time / GATHER_PAUSE_SHARE);
        }
    }

    /// Commits the oldest group. Returns false if no append is queued.
    pub(crate) fn commit_waiting(&mut self) -> bool {
        let Some(mut group) = self.shared.queue.take() else {
            return false;
        };
        match self.commit(&group) {
            Ok(()) => {
                let marked = self.record_mark(false);
                failpoint::hit("journal.marked");
                self.expected = self.shared.queue.waiting() + group.waiters.len();
                // The group is synced and readers can see it, so it is acknowledged even if the mark failed.
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

    /// Syncs the durable mark while no appends arrive, so that it survives a power cut.
    pub(crate) fn idle(&mut self) {
        self.expected = 0;
        if self.poisoned.is_none()
            && let Err(error) = self.mark.sync()
        {
            self.poison(None, error.line());
        }
    }

    /// Ends the writer. All queued appends must have been written before.
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
        match self.release_preallocated() {
            // Open ignores zeros after the last frame.
            Err(Failure::Full) => {}
            released => released?,
        }
        self.record_mark(true)?;
        Ok(self.mark.sync()?)
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

    /// Returns the position at which the sealed part of the log ends.
    fn seal(&mut self) -> Result<u64, Failure> {
        if self.synced_bytes > SEGMENT_HEADER_BYTES as u64 {
            self.start_segment()?;
        }
        failpoint::hit("journal.sealed");
        Ok(self.segment.first)
    }

    /// Moves the log's beginning durably. Segments below it may be removed only afterwards. Both slots of the mark
    /// are written, because a torn write could otherwise restore a mark with the old beginning.
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
            // This is a bug in this crate. If the group were written, the log would be damaged permanently.
            let (expected, found) = (self.end, group.first);
            let reason = format!("bug in the journal: position {found} was queued instead of {expected}");
            return Err(Failure::Poisoned(reason));
        }
        let full = self.synced_bytes + group.bytes.len() as u64 > self.segment_bytes_max;
        if full && self.synced_bytes > SEGMENT_HEADER_BYTES as u64 {
            self.start_segment()?;
        }
        // If the file was truncated or replaced, the next open would find the group after a gap, or not at all.
        self.file.expect_at_path(&self.shared.disk, self.synced_bytes)?;
        self.preallocate(group.bytes.len() as u64)?;
        self.write(group)?;
        let begun = Instant::now();
        failpoint::hit("journal.sync");
        self.file.sync()?;
        failpoint::hit("journal.synced");
        self.sync_time = begun.elapsed();
        // The next open reads the file at this path, so the group must be in that file.
        self.file.expect_at_path(&self.shared.disk, self.synced_bytes + group.bytes.len() as u64)?;
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
                // Without this sync, a power cut could restore a part of the group after its appends were refused.
                self.file.sync()?;
                Err(Failure::Full)
            }
            outcome => Ok(outcome?),
        }
    }

    /// Makes a synced group visible to readers and the observer.
    fn publish(&mut self, group: &Group) {
        let start = self.synced_bytes;
        self.segment.add_to_index(
            group
                .waiters
                .iter()
                .map(|waiter| Location { position: waiter.position, offset: start + waiter.offset as u64 }),
        );
        self.synced_bytes += group.bytes.len() as u64;
        self.end = group.end;
        self.segment.set_durable_bytes(self.synced_bytes);
        self.shared.advance(self.end, group.bytes.len() as u64);
        (self.observer)(Signal::Durable { end: self.end, sync_time: self.sync_time });
    }

    /// Seals the active segment, which is completely synced, and starts the next one. The new file gets its final
    /// name only with a complete header, and nothing is appended to it before that name is durable.
    fn start_segment(&mut self) -> Result<(), Failure> {
        failpoint::hit("journal.seal");
        // If the folder was replaced by another one, the new segment would become part of another log.
        self.shared.disk.expect_folder(&self.shared.folder, &self.lock)?;
        self.release_preallocated()?;
        failpoint::hit("journal.room_given_back");
        self.mark.sync()?;
        let header =
            SegmentHeader { log_id: self.shared.log_id, first: self.end, previous_bytes: self.synced_bytes };
        let name = file_name(self.end);
        let failpoints = ["journal.segment_created", "journal.segment_renamed"];
        let bytes = header.to_bytes();
        let renames = self.shared.lock_renames();
        let created = write_whole(&self.shared.disk, &self.shared.folder, &name, &bytes, failpoints);
        drop(renames);
        self.file = match created {
            Err(error) if error.is_full() => {
                // The temporary file uses space that others may need. Open would also remove it.
                let _ = self.shared.disk.remove(&self.shared.folder.join(format!("{name}.tmp")));
                return Err(Failure::Full);
            }
            created => created?,
        };
        self.synced_bytes = SEGMENT_HEADER_BYTES as u64;
        self.preallocated_bytes = self.synced_bytes;
        let path = self.shared.folder.join(name);
        let segment = Segment::new(self.end, path, self.synced_bytes, Vec::new());
        self.segment = Arc::new(segment);
        self.shared.add_segment(Arc::clone(&self.segment), self.synced_bytes);
        Ok(())
    }

    fn record_mark(&mut self, clean_stop: bool) -> Result<(), DiskError> {
        let mark = self.mark_with(self.shared.begin(), clean_stop);
        // On a copy-on-write file system, even an overwrite can fail because the disk is full. Then the mark is
        // behind the log, which is allowed. The other slot stays valid.
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

    /// Refuses the group and all queued groups after it, because their positions depend on it. The positions are
    /// assigned again.
    fn refuse_for_space(&mut self, group: &mut Group) {
        let later_groups = self.shared.queue.restart_at(self.end);
        group.refuse(&AppendError::DiskFull);
        for mut group in later_groups {
            group.refuse(&AppendError::DiskFull);
        }
    }

    /// Refuses all appends from now on, and notifies the observer. After a failed sync the kernel may show bytes
    /// that are not on the disk, and the next sync may succeed. So nothing that this process could still do would
    /// make an acknowledgement reliable.
    pub(crate) fn poison(&mut self, group: Option<&mut Group>, reason: String) {
        let refusal = AppendError::Poisoned { reason: reason.clone() };
        let later_groups = self.shared.queue.refuse_all(refusal.clone());
        self.poisoned = Some(reason.clone());
        (self.observer)(Signal::Poisoned { reason });
        if let Some(group) = group {
            group.refuse(&refusal);
        }
        for mut group in later_groups {
            group.refuse(&refusal);
        }
    }
}

impl Drop for Writer {
    /// Waits for a running rewrite or trim, because it uses the folder too, before the folder is unlocked.
    fn drop(&mut self) {
        drop(self.shared.lock_maintenance());
    }
}

/// Refuses all appends if the writer panics, so that no caller waits endlessly.
struct PanicGuard<'a>(&'a LogState);

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

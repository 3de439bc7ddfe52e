//! The handle of an open log: append, read, seal, rewrite, trim and close. Opening is in `recover`, writing in
//! `writer`.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, ThreadId};

use crate::close_error::CloseError;
use crate::disk::{Disk, DiskError};
use crate::log_state::{LogState, SegmentInfo};
use crate::queue::{Closing, Done};
use crate::reader::{ReadError, Reader};
use crate::recover::{self, OpenError, Recovery};
use crate::rewrite::{self, Rewritten};
use crate::rewrite_error::RewriteError;
use crate::snapshot::Snapshot;
use crate::trim::{self, TrimError};
use crate::writer_command::{Work, WriterError};
use crate::{Frame, LogId, Options};

/// An open log. Clones share it.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

/// A log that was just opened, and what recovery found.
pub struct Opened {
    pub journal: Journal,
    pub recovery: Recovery,
}

struct Inner {
    shared: Arc<LogState>,
    writer_thread: Option<ThreadId>,
    thread: Mutex<Thread>,
}

enum Thread {
    Running(JoinHandle<Result<(), CloseError>>),
    Ended(Result<(), CloseError>),
}

impl Journal {
    /// Opens the log in `folder`, or creates one if there is none.
    pub fn open(disk: Disk, folder: &Path, options: Options) -> Result<Opened, OpenError> {
        let (writer, recovery) = recover::recover(disk, folder, options)?;
        let shared = Arc::clone(&writer.shared);
        let thread = event::start_thread("journal", move || writer.run())
            .map_err(|source| DiskError::new("start a writer thread for", folder, source))?;
        let journal = Self::new(shared, Thread::Running(thread));
        Ok(Opened { journal, recovery })
    }

    /// Opens the log without a writer thread. The caller commits and closes through the stepper.
    #[cfg(feature = "simulation")]
    pub fn open_stepped(disk: Disk, folder: &Path, options: Options) -> Result<(Opened, Stepper), OpenError> {
        let (writer, recovery) = recover::recover(disk, folder, options)?;
        let journal = Self::new(Arc::clone(&writer.shared), Thread::Ended(Ok(())));
        Ok((Opened { journal, recovery }, Stepper(writer)))
    }

    fn new(shared: Arc<LogState>, thread: Thread) -> Self {
        let writer_thread = match &thread {
            Thread::Running(handle) => Some(handle.thread().id()),
            Thread::Ended(_) => None,
        };
        let thread = Mutex::new(thread);
        Self { inner: Arc::new(Inner { shared, writer_thread, thread }) }
    }

    pub fn id(&self) -> LogId {
        self.inner.shared.log_id
    }

    /// The lowest position in the log.
    pub fn begin(&self) -> u64 {
        self.inner.shared.begin()
    }

    /// The position after the last durable event. All events below it can be read.
    pub fn end(&self) -> u64 {
        self.inner.shared.end()
    }

    /// The size of all segments, without preallocated space.
    pub fn bytes(&self) -> u64 {
        self.inner.shared.bytes()
    }

    /// Appends `count` events as one atomic frame, and calls `done` after the frame is synced. Never blocks on
    /// the disk.
    pub fn append(&self, payload: &[u8], count: NonZeroU32, done: Done) {
        self.inner.shared.queue.append(payload, count, done);
    }

    /// The segments of the log, oldest first. The last one is the active segment.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.inner.shared.segments()
    }

    /// Seals the active segment if it contains a frame, and starts a new one. Blocks until the writer has synced
    /// it. Returns the position at which the sealed part of the log ends.
    pub fn seal(&self) -> Result<u64, WriterError> {
        self.inner.ask(Work::Seal)
    }

    /// Replaces payloads in sealed segments by others of the same length, to erase their content from the log's
    /// files. Positions do not change.
    ///
    /// Calls `change` with each data frame of `from..until`, in order. `change` returns the new payload, or `None`
    /// to keep the frame. A segment for which it returned a payload is written again as a whole, even if all
    /// bytes are equal. After a failed rewrite the kernel may show bytes that are not on the disk, and only a new
    /// file makes them durable. If this fails, each segment is either completely old or completely new.
    ///
    /// Every read that starts after this returns sees the new bytes. Until its next read, a [`Reader`] may keep
    /// the old file open and old bytes in its buffer. `*.damaged` files of a repair are not part of the log and
    /// are not changed.
    ///
    /// Blocks on the disk, but does not block appends and reads. `change` must not close, rewrite or trim the
    /// log.
    pub fn rewrite(
        &self,
        from: u64,
        until: u64,
        change: &mut dyn FnMut(&Frame<'_>) -> Option<Vec<u8>>,
    ) -> Result<Rewritten, RewriteError> {
        rewrite::rewrite(&self.inner.shared, from..until, change)
    }

    /// Removes the sealed segments that contain only events below `before`. Returns the new beginning of the log,
    /// which never moves back, even after a crash. Reads below it fail with `BelowBegin`. A reader closes a
    /// removed file at its next read. Blocks on the disk.
    pub fn trim(&self, before: u64) -> Result<u64, TrimError> {
        trim::trim(&self.inner.shared, before, &mut |work| self.inner.ask(work))
    }

    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.inner.shared))
    }

    /// Returns the files and lengths that make up a copy of the log, as far as it is durable now.
    pub fn snapshot(&self) -> Result<Snapshot, ReadError> {
        Snapshot::of(&self.inner.shared, &mut self.reader())
    }

    /// Writes and syncs all queued appends, records the clean stop and unlocks the folder. Blocks until a running
    /// rewrite or trim has ended.
    pub fn close(&self) -> Result<(), CloseError> {
        self.inner.end(Closing::Clean)
    }
}

impl Inner {
    fn ask(&self, work: Work) -> Result<u64, WriterError> {
        if self.writer_thread == Some(thread::current().id()) {
            return Err(WriterError::OnWriterThread);
        }
        self.shared.queue.ask(work)
    }

    fn end(&self, closing: Closing) -> Result<(), CloseError> {
        self.shared.queue.close(closing);
        let mut thread = event::lock(&self.thread);
        match std::mem::replace(&mut *thread, Thread::Ended(Err(CloseError::Panicked))) {
            Thread::Running(handle) if handle.thread().id() == thread::current().id() => {
                *thread = Thread::Running(handle);
                Err(CloseError::OnWriterThread)
            }
            Thread::Running(handle) => {
                let outcome = handle.join().unwrap_or(Err(CloseError::Panicked));
                *thread = Thread::Ended(outcome.clone());
                outcome
            }
            Thread::Ended(outcome) => {
                *thread = Thread::Ended(outcome.clone());
                outcome
            }
        }
    }
}

impl Drop for Inner {
    /// Writes the queued appends. It does not record a clean stop, because nobody called `close`.
    fn drop(&mut self) {
        let _ = self.end(Closing::Dropped);
    }
}

/// The writer without its thread: a test calls each step.
#[cfg(feature = "simulation")]
pub struct Stepper(crate::writer::Writer);

#[cfg(feature = "simulation")]
impl Stepper {
    /// Commits the oldest group. Returns false if no append is queued.
    pub fn commit_waiting(&mut self) -> bool {
        self.0.commit_waiting()
    }

    /// Does what the writer does when no appends arrive.
    pub fn idle(&mut self) {
        self.0.idle();
    }

    /// Does the work of [`Journal::seal`].
    pub fn seal(&mut self) -> Result<u64, WriterError> {
        self.0.perform(Work::Seal)
    }

    /// Does the work of [`Journal::trim`], but runs the writer's part directly.
    pub fn trim(&mut self, before: u64) -> Result<u64, TrimError> {
        let shared = Arc::clone(&self.0.shared);
        trim::trim(&shared, before, &mut |work| self.0.perform(work))
    }

    /// Commits all queued appends and stops cleanly.
    pub fn close(mut self) -> Result<(), CloseError> {
        self.0.shared.queue.close(Closing::Clean);
        while self.0.commit_waiting() {}
        self.0.stop(Closing::Clean)
    }
}

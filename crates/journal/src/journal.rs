//! The log as its users hold it: append, read, close. Opening it is `recover`'s part,
//! writing it the `writer`'s.

use std::num::NonZeroU32;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::{self, JoinHandle, ThreadId};

use crate::command::{Work, WriterError};
use crate::disk::{Disk, DiskError};
use crate::queue::{Closing, Done, Queue};
use crate::reader::{ReadError, Reader};
use crate::recover::{self, OpenError, Recovery};
use crate::rewrite::{self, RewriteError, Rewritten};
use crate::segment::Segment;
use crate::snapshot::Snapshot;
use crate::trim::{self, TrimError};
use crate::{Frame, LogId, Options};

/// An open log; clones share it.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

/// A log just opened, and what was found.
pub struct Opened {
    pub journal: Journal,
    pub recovery: Recovery,
}

/// Why the log could not be stopped cleanly. What was acknowledged is durable all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseError {
    #[error("the journal is poisoned: {reason}")]
    Poisoned { reason: String },
    #[error("the journal's writer panicked")]
    Panicked,
    #[error("the journal cannot wait for its writer on the writer's own thread")]
    OnWriterThread,
}

/// One file of the log, as whoever decides what to keep has to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    /// The position of its first event.
    pub first: u64,
    /// The position after its last durable event.
    pub end: u64,
    pub bytes: u64,
    /// Nothing is appended to it any more.
    pub sealed: bool,
}

struct Inner {
    shared: Arc<Shared>,
    writer_thread: Option<ThreadId>,
    thread: Mutex<Thread>,
}

enum Thread {
    Running(JoinHandle<Result<(), CloseError>>),
    Ended(Result<(), CloseError>),
}

/// What appenders, the writer and readers have in common.
pub(crate) struct Shared {
    pub log_id: LogId,
    pub disk: Disk,
    pub folder: PathBuf,
    pub queue: Queue,
    begin: AtomicU64,
    end: AtomicU64,
    bytes: AtomicU64,
    /// In rising order; the last is being written.
    segments: RwLock<Vec<Arc<Segment>>>,
    /// Held by whoever rewrites or trims.
    upkeep: Mutex<()>,
    /// Held from a rename to the sync of the folder: a sync that fails must not take along a name that
    /// somebody else's sync would then claim to have kept.
    names: Mutex<()>,
}

impl Journal {
    /// Opens the log in `folder`, or makes one where there is none.
    pub fn open(disk: Disk, folder: &Path, options: Options) -> Result<Opened, OpenError> {
        let (writer, recovery) = recover::recover(disk, folder, options)?;
        let shared = Arc::clone(&writer.shared);
        let thread = thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run())
            .map_err(|source| DiskError::new("start a writer thread for", folder, source))?;
        let journal = Self::new(shared, Thread::Running(thread));
        Ok(Opened { journal, recovery })
    }

    /// Opens the log without a thread: whoever holds the stepper is the writer, and
    /// closes the log by it.
    #[cfg(feature = "simulation")]
    pub fn open_stepped(disk: Disk, folder: &Path, options: Options) -> Result<(Opened, Stepper), OpenError> {
        let (writer, recovery) = recover::recover(disk, folder, options)?;
        let journal = Self::new(Arc::clone(&writer.shared), Thread::Ended(Ok(())));
        Ok((Opened { journal, recovery }, Stepper(writer)))
    }

    fn new(shared: Arc<Shared>, thread: Thread) -> Self {
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

    /// The lowest position held.
    pub fn begin(&self) -> u64 {
        self.inner.shared.begin()
    }

    /// Positions below are durable and can be read.
    pub fn end(&self) -> u64 {
        self.inner.shared.end()
    }

    /// The size of all segments.
    pub fn bytes(&self) -> u64 {
        self.inner.shared.bytes.load(Ordering::Relaxed)
    }

    /// Appends `count` events as one frame that is kept or torn as a whole, and calls
    /// `done` once it is synced. It never blocks on the disk.
    pub fn append(&self, payload: &[u8], count: NonZeroU32, done: Done) {
        self.inner.shared.queue.append(payload, count, done);
    }

    /// The files of the log, oldest first; the last is being written.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.inner.shared.segments()
    }

    /// Seals the segment that is being written, if it holds anything, and begins another. Answers where
    /// the sealed part of the log ends. Blocks until the writer has synced it.
    pub fn seal(&self) -> Result<u64, WriterError> {
        self.inner.ask(Work::Seal)
    }

    /// Puts other bytes of the same length in place of payloads in sealed segments, so that nothing
    /// moves: what has to be forgotten leaves the log's files, and every position stays what it was.
    ///
    /// `change` is shown every frame of `from..until` but lost ones, in order, and answers the new
    /// payload, or nothing where the frame is to stay. A segment in which a payload was answered is
    /// written anew as a whole, even if nothing differs: after a rewrite that failed, only that makes
    /// durable what the kernel may merely show. An error leaves each segment wholly old or wholly new.
    ///
    /// A read that begins after this has returned brings the new bytes, for ever. Until its next read
    /// of whatever position, a [`Reader`] may hold the old file open, and old bytes in its buffer.
    /// `*.damaged` files that a repair kept are no part of the log, and stay.
    ///
    /// Blocks on the disk, beside appends and reads. `change` must neither close the log nor rewrite
    /// or trim it.
    pub fn rewrite(
        &self,
        from: u64,
        until: u64,
        change: &mut dyn FnMut(&Frame<'_>) -> Option<Vec<u8>>,
    ) -> Result<Rewritten, RewriteError> {
        rewrite::rewrite(&self.inner.shared, from..until, change)
    }

    /// Removes the sealed segments all of whose events lie below `before`, and answers where the log
    /// begins now. That never goes back, whatever happens. Readers below it are told `BelowBegin`; one
    /// that holds a removed file open lets go of it at its next read. Blocks on the disk.
    pub fn trim(&self, before: u64) -> Result<u64, TrimError> {
        trim::trim(&self.inner.shared, before, &mut |work| self.inner.ask(work))
    }

    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.inner.shared))
    }

    /// What a copy of the log, as far as it is durable now, has to hold.
    pub fn snapshot(&self) -> Result<Snapshot, ReadError> {
        Snapshot::of(&self.inner.shared, &mut self.reader())
    }

    /// Finishes what waits, syncs, records the clean stop and gives the folder free, once a rewrite or trim
    /// that is on its way has ended too.
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
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
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
    /// Dropped without a close: what waits is still written, but nobody said that this
    /// was a clean stop.
    fn drop(&mut self) {
        let _ = self.end(Closing::Dropped);
    }
}

impl Shared {
    pub(crate) fn new(
        log_id: LogId,
        disk: Disk,
        folder: PathBuf,
        queue: Queue,
        segments: Vec<Arc<Segment>>,
        end: u64,
    ) -> Self {
        let begin = segments.first().map_or(end, |segment| segment.first);
        let bytes = segments.iter().map(|segment| segment.durable_bytes()).sum();
        Self {
            log_id,
            disk,
            folder,
            queue,
            begin: AtomicU64::new(begin),
            end: AtomicU64::new(end),
            bytes: AtomicU64::new(bytes),
            segments: RwLock::new(segments),
            upkeep: Mutex::new(()),
            names: Mutex::new(()),
        }
    }

    pub(crate) fn begin(&self) -> u64 {
        self.begin.load(Ordering::Acquire)
    }

    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// The segment's durable bytes are set before, so that whoever sees the new end
    /// finds what lies below it.
    pub(crate) fn advance(&self, end: u64, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.end.store(end, Ordering::Release);
    }

    pub(crate) fn add_segment(&self, segment: Arc<Segment>, bytes: u64) {
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        segments.push(segment);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The segments from the beginning to the one whose first position is `last`.
    pub(crate) fn segments_to(&self, last: u64) -> Vec<Arc<Segment>> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        segments.iter().take_while(|segment| segment.first <= last).cloned().collect()
    }

    /// Lets go of the segments below. Readers see the new beginning first: who does not find its segment
    /// any more finds the reason.
    pub(crate) fn begin_at(&self, begin: u64) {
        self.begin.store(begin, Ordering::Release);
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        let gone = segments.partition_point(|segment| segment.first < begin);
        for segment in segments.drain(..gone) {
            segment.renew();
            self.bytes.fetch_sub(segment.durable_bytes(), Ordering::Relaxed);
        }
    }

    /// Where the log may begin if everything below `before` may go: at the first event of a segment.
    pub(crate) fn begin_for(&self, before: u64) -> u64 {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let after = segments.partition_point(|segment| segment.first <= before);
        after.checked_sub(1).map_or(self.begin(), |at| segments[at].first)
    }

    fn segments(&self) -> Vec<SegmentInfo> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let ends = segments.iter().skip(1).map(|next| Some(next.first)).chain([None]);
        let info = |(segment, next): (&Arc<Segment>, Option<u64>)| SegmentInfo {
            first: segment.first,
            // While the list is held, no other segment comes that the end could lie in.
            end: next.unwrap_or_else(|| self.end().max(segment.first)),
            bytes: segment.durable_bytes(),
            sealed: next.is_some(),
        };
        segments.iter().zip(ends).map(info).collect()
    }

    /// The sealed segments with events in `range`, each with its end; and where all of them end.
    pub(crate) fn sealed_in(&self, range: &Range<u64>) -> (Vec<(Arc<Segment>, u64)>, u64) {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let pairs = segments.iter().zip(segments.iter().skip(1));
        let sealed = pairs.map(|(segment, next)| (segment, next.first));
        let within = sealed.filter(|(segment, end)| segment.first < range.end && range.start < *end);
        let found = within.map(|(segment, end)| (Arc::clone(segment), end)).collect();
        (found, segments.last().map_or(self.end(), |last| last.first))
    }

    /// The first sealed segments whose position is `from` or higher, at most `count_max` of them.
    pub(crate) fn sealed_from(&self, from: u64, count_max: usize) -> Vec<Arc<Segment>> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let sealed = segments.split_last().map_or(&[][..], |(_, sealed)| sealed);
        let at = sealed.partition_point(|segment| segment.first < from);
        sealed[at..].iter().take(count_max).cloned().collect()
    }

    pub(crate) fn upkeep(&self) -> MutexGuard<'_, ()> {
        self.upkeep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn names(&self) -> MutexGuard<'_, ()> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The segment that holds `position`; none if it was trimmed away meanwhile.
    pub(crate) fn segment_of(&self, position: u64) -> Option<Arc<Segment>> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let after = segments.partition_point(|segment| segment.first <= position);
        segments.get(after.checked_sub(1)?).cloned()
    }
}

/// The writer's steps in the hands of a test.
#[cfg(feature = "simulation")]
pub struct Stepper(crate::writer::Writer);

#[cfg(feature = "simulation")]
impl Stepper {
    /// Commits the oldest group; false if nothing waits.
    pub fn commit_waiting(&mut self) -> bool {
        self.0.commit_waiting()
    }

    /// What the writer does in a quiet moment.
    pub fn idle(&mut self) {
        self.0.idle();
    }

    /// What [`Journal::seal`] asks of the writer.
    pub fn seal(&mut self) -> Result<u64, WriterError> {
        self.0.perform(Work::Seal)
    }

    /// What [`Journal::trim`] does, with the writer at hand.
    pub fn trim(&mut self, before: u64) -> Result<u64, TrimError> {
        let shared = Arc::clone(&self.0.shared);
        trim::trim(&shared, before, &mut |work| self.0.perform(work))
    }

    /// Commits what waits and stops cleanly.
    pub fn close(mut self) -> Result<(), CloseError> {
        self.0.shared.queue.close(Closing::Clean);
        while self.0.commit_waiting() {}
        self.0.stop(Closing::Clean)
    }
}

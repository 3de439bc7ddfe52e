//! The log as its users hold it: append, read, close. Opening it is `recover`'s part,
//! writing it the `writer`'s.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};

use crate::disk::{Disk, DiskError};
use crate::outline::Outline;
use crate::queue::{Closing, Done, Queue};
use crate::reader::{ReadError, Reader};
use crate::recover::{self, OpenError, Recovery};
use crate::segment::Segment;
use crate::{LogId, Options};

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

struct Inner {
    shared: Arc<Shared>,
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
    pub queue: Queue,
    begin: AtomicU64,
    end: AtomicU64,
    bytes: AtomicU64,
    /// In rising order; the last is being written.
    segments: RwLock<Vec<Arc<Segment>>>,
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
        let thread = Mutex::new(thread);
        Self { inner: Arc::new(Inner { shared, thread }) }
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

    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.inner.shared))
    }

    /// What a copy of the log, as far as it is durable now, has to hold.
    pub fn outline(&self) -> Result<Outline, ReadError> {
        Outline::of(&self.inner.shared, &mut self.reader())
    }

    /// Finishes what waits, syncs, records the clean stop and gives the folder free.
    pub fn close(&self) -> Result<(), CloseError> {
        self.inner.end(Closing::Clean)
    }
}

impl Inner {
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
        queue: Queue,
        segments: Vec<Arc<Segment>>,
        end: u64,
    ) -> Self {
        let begin = segments.first().map_or(end, |segment| segment.first);
        let bytes = segments.iter().map(|segment| segment.durable_bytes()).sum();
        Self {
            log_id,
            disk,
            queue,
            begin: AtomicU64::new(begin),
            end: AtomicU64::new(end),
            bytes: AtomicU64::new(bytes),
            segments: RwLock::new(segments),
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

    /// The segment that holds `position`, which is neither below begin nor past the end.
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

    /// Commits what waits and stops cleanly.
    pub fn close(mut self) -> Result<(), CloseError> {
        self.0.shared.queue.close(Closing::Clean);
        while self.0.commit_waiting() {}
        self.0.stop(Closing::Clean)
    }
}

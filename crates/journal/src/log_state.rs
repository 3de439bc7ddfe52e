//! The state of an open log that callers, the writer and readers share.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use crate::LogId;
use crate::disk::Disk;
use crate::queue::Queue;
use crate::segment::Segment;

/// One file of the log. Retention uses it to decide which segments to trim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    /// The position of the first event.
    pub first: u64,
    /// The position after the last durable event.
    pub end: u64,
    pub bytes: u64,
    /// True if nothing more is appended to this segment.
    pub sealed: bool,
}

/// State that is shared by callers, the writer and readers.
pub(crate) struct LogState {
    pub log_id: LogId,
    pub disk: Disk,
    pub folder: PathBuf,
    pub queue: Queue,
    begin: AtomicU64,
    end: AtomicU64,
    bytes: AtomicU64,
    /// Sorted by position. The last one is the active segment.
    segments: RwLock<Vec<Arc<Segment>>>,
    /// Held during a rewrite or a trim.
    maintenance: Mutex<()>,
    /// Held from a rename to the sync of the folder. A folder sync that fails may lose the rename of another
    /// thread, whose own sync then succeeds and seems to have made that rename durable.
    renames: Mutex<()>,
}

impl LogState {
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
            maintenance: Mutex::new(()),
            renames: Mutex::new(()),
        }
    }

    /// The size of all segments, without preallocated space.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn begin(&self) -> u64 {
        self.begin.load(Ordering::Acquire)
    }

    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Publishes a new durable end. The segment's durable bytes must be set before, so that a reader that sees the
    /// new end finds all events below it.
    pub(crate) fn advance(&self, end: u64, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.end.store(end, Ordering::Release);
    }

    pub(crate) fn add_segment(&self, segment: Arc<Segment>, bytes: u64) {
        let mut segments = event::write_lock(&self.segments);
        segments.push(segment);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The segments from the beginning up to the one whose first position is `last`.
    pub(crate) fn segments_to(&self, last: u64) -> Vec<Arc<Segment>> {
        let segments = event::read_lock(&self.segments);
        segments.iter().take_while(|segment| segment.first <= last).cloned().collect()
    }

    /// Removes the segments below `begin` from the list. The new beginning is published first, so that a reader
    /// that no longer finds its segment can see the reason.
    pub(crate) fn begin_at(&self, begin: u64) {
        self.begin.store(begin, Ordering::Release);
        let mut segments = event::write_lock(&self.segments);
        let removed = segments.partition_point(|segment| segment.first < begin);
        for segment in segments.drain(..removed) {
            segment.bump_generation();
            self.bytes.fetch_sub(segment.durable_bytes(), Ordering::Relaxed);
        }
    }

    /// The highest position, not above `before`, to which the log can be trimmed: the first position of a segment.
    pub(crate) fn begin_for(&self, before: u64) -> u64 {
        let segments = event::read_lock(&self.segments);
        let after = segments.partition_point(|segment| segment.first <= before);
        after.checked_sub(1).map_or(self.begin(), |at| segments[at].first)
    }

    pub(crate) fn segments(&self) -> Vec<SegmentInfo> {
        let segments = event::read_lock(&self.segments);
        let ends = segments.iter().skip(1).map(|next| Some(next.first)).chain([None]);
        let info = |(segment, next): (&Arc<Segment>, Option<u64>)| SegmentInfo {
            first: segment.first,
            // The list is locked, so no new segment can be added that contains the end.
            end: next.unwrap_or_else(|| self.end().max(segment.first)),
            bytes: segment.durable_bytes(),
            sealed: next.is_some(),
        };
        segments.iter().zip(ends).map(info).collect()
    }

    /// The sealed segments with events in `range`, each with its end, and the end of the whole sealed part.
    pub(crate) fn sealed_in(&self, range: &Range<u64>) -> (Vec<(Arc<Segment>, u64)>, u64) {
        let segments = event::read_lock(&self.segments);
        let pairs = segments.iter().zip(segments.iter().skip(1));
        let sealed = pairs.map(|(segment, next)| (segment, next.first));
        let within = sealed.filter(|(segment, end)| segment.first < range.end && range.start < *end);
        let found = within.map(|(segment, end)| (Arc::clone(segment), end)).collect();
        (found, segments.last().map_or(self.end(), |last| last.first))
    }

    /// The first sealed segments whose position is `from` or higher, at most `count_max` of them.
    pub(crate) fn sealed_from(&self, from: u64, count_max: usize) -> Vec<Arc<Segment>> {
        let segments = event::read_lock(&self.segments);
        let sealed = segments.split_last().map_or(&[][..], |(_, sealed)| sealed);
        let at = sealed.partition_point(|segment| segment.first < from);
        sealed[at..].iter().take(count_max).cloned().collect()
    }

    pub(crate) fn lock_maintenance(&self) -> MutexGuard<'_, ()> {
        event::lock(&self.maintenance)
    }

    pub(crate) fn lock_renames(&self) -> MutexGuard<'_, ()> {
        event::lock(&self.renames)
    }

    /// The segment that contains `position`, or `None` if it was trimmed in the meantime.
    pub(crate) fn segment_of(&self, position: u64) -> Option<Arc<Segment>> {
        let segments = event::read_lock(&self.segments);
        let after = segments.partition_point(|segment| segment.first <= position);
        segments.get(after.checked_sub(1)?).cloned()
    }
}

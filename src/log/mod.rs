//! The log: the ordered, durable record of admitted events, read by position. Sources append to it and acknowledge an
//! event once the append has succeeded. Dedup and the views read from it. Each kind of log guarantees:
//!
//! - `append` succeeds only after the record is on stable storage.
//! - A record is stored completely or not at all, and its events have consecutive positions.
//! - Readers see only durable records, always in the same order.

mod ages;
mod backup_copy;
mod byte_reader;
mod correction_lock;
mod disk_space;
mod embedded;
mod history_lock;
mod record;
mod record_header;
mod traces;
mod upload_line;

use std::path::Path;

use event::{LogId, Millis};
use tokio::sync::watch;

pub use ages::Ages;
pub use backup_copy::{CopyError, LogCopy, PinnedLog, PinnedSegment};
pub use correction_lock::{CorrectionGuard, CorrectionLock, ResendGuard};
pub use disk_space::{DiskBytes, beyond_reserve};
use embedded::{Embedded, EmbeddedReader, EmbeddedRecords};
pub use history_lock::{DeletionGuard, HistoryGuard, HistoryLock};
pub use journal::{Recovery as OpenReport, SegmentInfo as Segment};
pub use record::{Entry, Record, RecordBuilder, Shape};
pub use record_header::{Header, Retry, UploadLines};
pub use traces::Traces;
pub use upload_line::UploadLine;

/// The storage of the log. There is one kind so far: files in the data folder.
#[derive(Clone)]
pub enum EventLog {
    Embedded(Embedded),
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    #[error("`[log] url = \"{0}\"` is not supported; use `journal:`, the log in the data folder")]
    UnknownUrl(String),
    #[error("{0}")]
    Journal(String),
    /// A thread that the log needs did not start.
    #[error("{0}")]
    Thread(String),
}

impl From<std::io::Error> for OpenError {
    fn from(error: std::io::Error) -> Self {
        Self::Thread(error.to_string())
    }
}

/// The reason why a record was not appended. Nothing of it is stored, except where a variant says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    #[error("the queue of appends that wait for the disk is full")]
    QueueFull,
    #[error("the disk of the data folder is nearly full")]
    DiskFull,
    #[error("the record is larger than {bytes_max} bytes")]
    TooLarge { bytes_max: usize },
    #[error("the log has failed: {0}")]
    Failed(String),
    /// The log failed while the record was being written. After the next start it may be stored or not.
    #[error("the log failed during the append, and the record may be stored or not: {0}")]
    FailedDuringAppend(String),
    #[error("the log is closed")]
    Closed,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    #[error("position {position} is beyond the end of the log, {end}")]
    PastEnd { position: u64, end: u64 },
    #[error("position {position} is before the start of the log, {begin}")]
    BelowBegin { position: u64, begin: u64 },
    #[error("{0}")]
    Damaged(String),
}

/// The reason why the log was not sealed or trimmed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpkeepError {
    #[error("the disk of the data folder is full")]
    DiskFull,
    #[error("the log has failed: {0}")]
    Failed(String),
    #[error("the log is closed")]
    Closed,
    /// A later attempt may succeed. The failure itself loses nothing.
    #[error("{0}")]
    Disk(String),
}

/// The reason why not all events were erased. Some may be erased; a second call with the same positions erases the
/// rest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EraseError {
    #[error("position {position} is beyond the end of the log, {end}")]
    PastEnd { position: u64, end: u64 },
    #[error("{0}")]
    Damaged(String),
    #[error(transparent)]
    Upkeep(#[from] UpkeepError),
}

/// Fails if no log can be opened at this URL.
pub fn check_url(url: &str) -> Result<(), OpenError> {
    if url == "journal:" { Ok(()) } else { Err(OpenError::UnknownUrl(url.to_owned())) }
}

impl EventLog {
    pub fn open(url: &str, data: &Path) -> Result<(Self, OpenReport), OpenError> {
        check_url(url)?;
        Embedded::open(data).map(|(log, found)| (Self::Embedded(log), found))
    }

    pub fn id(&self) -> LogId {
        match self {
            Self::Embedded(log) => log.id(),
        }
    }

    pub fn begin(&self) -> u64 {
        match self {
            Self::Embedded(log) => log.begin(),
        }
    }

    /// Returns the position after the last durable event.
    pub fn end(&self) -> u64 {
        match self {
            Self::Embedded(log) => log.end(),
        }
    }

    pub fn bytes(&self) -> u64 {
        match self {
            Self::Embedded(log) => log.bytes(),
        }
    }

    /// Fails if an append would be refused now, with the reason.
    pub fn accepts(&self) -> Result<(), AppendError> {
        match self {
            Self::Embedded(log) => log.accepts(),
        }
    }

    /// Appends a record. The record has its place in the order when this function returns; the future completes once
    /// the record is durable, and returns the position of its first event.
    pub fn append(
        &self,
        record: &RecordBuilder,
    ) -> impl Future<Output = Result<u64, AppendError>> + Send + use<> {
        self.append_holding(record, ())
    }

    /// The same, and keeps `held` until the record is durable or refused, even if nobody waits for the future.
    pub fn append_holding<H: Send + 'static>(
        &self,
        record: &RecordBuilder,
        held: H,
    ) -> impl Future<Output = Result<u64, AppendError>> + Send + use<H> {
        match self {
            Self::Embedded(log) => log.append(record, held),
        }
    }

    pub fn reader(&self) -> LogReader {
        match self {
            Self::Embedded(log) => LogReader::Embedded(log.reader()),
        }
    }

    /// Returns when the event at `position` was received, or the first one after it; `None` if there is none. Blocks.
    pub fn received_at(&self, position: u64) -> Option<Millis> {
        let mut reader = self.reader();
        let records = reader.read(position, 1).ok()?;
        records.iter().find_map(|record| record.ok()?.header.map(|header| header.received))
    }

    /// Returns the segments, oldest first. The last one is being written.
    pub fn segments(&self) -> Vec<Segment> {
        match self {
            Self::Embedded(log) => log.segments(),
        }
    }

    /// Ends the segment that is being written, so that events in it can be erased and the segment can be deleted.
    /// Returns its end. Blocks on the disk, so async code must not call it.
    pub fn seal(&self) -> Result<u64, UpkeepError> {
        match self {
            Self::Embedded(log) => log.seal(),
        }
    }

    /// Deletes the sealed segments that end at or below `before`. Returns the new first position of the log. Blocks
    /// on the disk, so async code must not call it.
    pub fn trim(&self, before: u64) -> Result<u64, UpkeepError> {
        match self {
            Self::Embedded(log) => log.trim(before),
        }
    }

    /// Returns the ages of the log's events.
    pub fn ages(&self) -> &Ages {
        match self {
            Self::Embedded(log) => log.ages(),
        }
    }

    /// Returns the lock that keeps old events from being deleted while somebody needs them.
    pub fn history_lock(&self) -> &HistoryLock {
        match self {
            Self::Embedded(log) => log.history_lock(),
        }
    }

    /// Returns the lock between the correction of an event and the retry of its dead letter.
    pub fn correction_lock(&self) -> &CorrectionLock {
        match self {
            Self::Embedded(log) => log.correction_lock(),
        }
    }

    /// Erases the texts of events from all files of the log. Positions, ids and all other events stay. Skips events
    /// that were trimmed or lost, and returns the number of the others, which are erased now. Blocks until the
    /// segments with these events are rewritten, so async code must not call it.
    pub fn erase(&self, positions: &[u64]) -> Result<u64, EraseError> {
        match self {
            Self::Embedded(log) => log.erase(positions),
        }
    }

    /// Returns a watch of the durable end.
    pub fn follow(&self) -> watch::Receiver<u64> {
        match self {
            Self::Embedded(log) => log.follow(),
        }
    }

    /// Pins the present files of the log for a backup, so that they stay readable if the log deletes them. Blocks.
    pub fn pin(&self) -> Result<PinnedLog, CopyError> {
        match self {
            Self::Embedded(log) => log.pin(),
        }
    }

    /// Waits until the log has failed permanently, and returns the reason. The process must end then.
    pub async fn failed(&self) -> String {
        match self {
            Self::Embedded(log) => log.failed().await,
        }
    }

    /// Finishes all pending appends and records the clean stop. Blocks.
    pub fn close(&self) -> Result<(), String> {
        match self {
            Self::Embedded(log) => log.close(),
        }
    }
}

/// Reads records in order. Blocks on the disk, so async code must not call it.
pub enum LogReader {
    Embedded(EmbeddedReader),
}

impl LogReader {
    /// Reads about `bytes_max` bytes of records, beginning with the record that contains `from`. Returns at least one
    /// record if there is one. The records borrow the reader's buffer.
    pub fn read(&mut self, from: u64, bytes_max: usize) -> Result<Records<'_>, ReadError> {
        match self {
            Self::Embedded(reader) => reader.read(from, bytes_max).map(Records::Embedded),
        }
    }
}

/// The records of one read.
pub enum Records<'a> {
    Embedded(EmbeddedRecords<'a>),
}

impl Records<'_> {
    pub fn iter(&self) -> impl Iterator<Item = Result<Record<'_>, ReadError>> {
        match self {
            Self::Embedded(records) => records.iter(),
        }
    }
}

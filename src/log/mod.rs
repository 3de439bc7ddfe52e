//! The log: the ordered, durable record of admitted events, read by position. Doors append here and say
//! yes when it answers; the gate and the views read from here. Each kind of log promises the same:
//!
//! - `append` answers only once the record is on stable storage, or says that it is not;
//! - a record is there whole or not at all, and its events have consecutive positions;
//! - readers see only what is durable, and see it in one order for ever.

mod ages;
mod backup_copy;
mod correction_lock;
mod disk_space;
mod embedded;
mod history_lock;
mod record;
mod traces;

use std::path::Path;

use event::LogId;
use tokio::sync::watch;

pub use ages::Ages;
pub use backup_copy::{CopyError, Held, KeptSegment, LogCopy};
pub use correction_lock::{Correcting, CorrectionLock, Resending};
pub use disk_space::beyond_reserve;
use embedded::{Embedded, EmbeddedReader, EmbeddedRecords};
pub use history_lock::{HistoryDeletion, HistoryHeld, HistoryLock};
pub use record::{Entry, Header, Record, RecordBuilder, Retry, Shape, UploadLines};
pub use traces::Traces;

/// Where events are kept. One kind today; RabbitMQ and Redis will stand beside it.
#[derive(Clone)]
pub enum EventLog {
    Embedded(Embedded),
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "`[log] url = \"{0}\"` is not a log that millrace knows; `journal:` is the one in the data folder"
    )]
    UnknownUrl(String),
    #[error("{0}")]
    Journal(String),
}

/// Why an event was not taken. Nothing of the record is stored then, but where it is said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    #[error("more is waiting for the disk than the queue may hold")]
    QueueFull,
    #[error("the disk of the data folder is nearly full")]
    DiskFull,
    #[error("one record is larger than {bytes_max} bytes")]
    TooLarge { bytes_max: usize },
    #[error("the log has failed: {0}")]
    Failed(String),
    /// The record was in line when it failed: the next start may find it stored, or not.
    #[error("the log failed while the record was in line, and it may be stored: {0}")]
    FailedUnder(String),
    #[error("the log is closed")]
    Closed,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    #[error("position {position} is beyond the end of the log, {end}")]
    PastEnd { position: u64, end: u64 },
    #[error("position {position} is below {begin}, where the log begins")]
    BelowBegin { position: u64, begin: u64 },
    #[error("{0}")]
    Damaged(String),
}

/// Why the log was not sealed or trimmed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpkeepError {
    #[error("the disk of the data folder is full")]
    DiskFull,
    #[error("the log has failed: {0}")]
    Failed(String),
    #[error("the log is closed")]
    Closed,
    /// Asked again later, it may work: nothing is lost by it.
    #[error("{0}")]
    Disk(String),
}

/// Why not all events were erased. Some may have been; asked for once more, all of them will be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EraseError {
    #[error("position {position} is beyond the end of the log, {end}")]
    PastEnd { position: u64, end: u64 },
    #[error("{0}")]
    Damaged(String),
    #[error(transparent)]
    Upkeep(#[from] UpkeepError),
}

/// A part of the log that is kept or given up as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub first: u64,
    /// The position after its last event.
    pub end: u64,
    pub bytes: u64,
    /// Nothing is appended to it any more.
    pub sealed: bool,
}

/// What the log was like when it was opened, for the log line and the checks of start.
#[derive(Clone, Debug)]
pub struct OpenReport {
    pub created: bool,
    pub clean_stop: bool,
    pub torn_bytes_cut: u64,
}

impl EventLog {
    pub fn open(url: &str, data: &Path) -> Result<(Self, OpenReport), OpenError> {
        match url {
            "journal:" => Embedded::open(data).map(|(log, found)| (Self::Embedded(log), found)),
            _ => Err(OpenError::UnknownUrl(url.to_owned())),
        }
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

    /// Everything below is durable.
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

    /// Whether new events would be taken now.
    pub fn accepts(&self) -> Result<(), AppendError> {
        match self {
            Self::Embedded(log) => log.accepts(),
        }
    }

    /// Appends a record: it is in line when this returns, and the answer is the position of its first
    /// event, once it is durable.
    pub fn append(
        &self,
        record: &RecordBuilder,
    ) -> impl Future<Output = Result<u64, AppendError>> + Send + use<> {
        match self {
            Self::Embedded(log) => log.append(record),
        }
    }

    pub fn reader(&self) -> LogReader {
        match self {
            Self::Embedded(log) => LogReader::Embedded(log.reader()),
        }
    }

    /// The log's parts, oldest first; the last is being written.
    pub fn segments(&self) -> Vec<Segment> {
        match self {
            Self::Embedded(log) => log.segments(),
        }
    }

    /// Ends the part that is being written, so that it may be erased from or given up; answers where it
    /// ends. Blocks on the disk: not for async code.
    pub fn seal(&self) -> Result<u64, UpkeepError> {
        match self {
            Self::Embedded(log) => log.seal(),
        }
    }

    /// Gives up the sealed parts all of whose events lie below `before`; answers where the log begins now,
    /// for ever. Blocks on the disk: not for async code.
    pub fn trim(&self, before: u64) -> Result<u64, UpkeepError> {
        match self {
            Self::Embedded(log) => log.trim(before),
        }
    }

    /// How old the log's events are.
    pub fn ages(&self) -> &Ages {
        match self {
            Self::Embedded(log) => log.ages(),
        }
    }

    /// What is held by whoever needs the log as it is from its beginning.
    pub fn history_lock(&self) -> &HistoryLock {
        match self {
            Self::Embedded(log) => log.history_lock(),
        }
    }

    /// The turns of those who take events back and those who send letters of them again.
    pub fn correction_lock(&self) -> &CorrectionLock {
        match self {
            Self::Embedded(log) => log.correction_lock(),
        }
    }

    /// Erases the texts of events, so that they are in none of the log's files any more; positions, ids and
    /// all other events stay. Answers how many of them the log holds, all of which are erased then; those
    /// that were trimmed away or lost are passed over. Blocks for as long as it takes to write the parts
    /// anew that hold them: not for async code.
    pub fn erase(&self, positions: &[u64]) -> Result<u64, EraseError> {
        match self {
            Self::Embedded(log) => log.erase(positions),
        }
    }

    /// Follows the durable end.
    pub fn follow(&self) -> watch::Receiver<u64> {
        match self {
            Self::Embedded(log) => log.follow(),
        }
    }

    /// Keeps what the log holds now for a backup, whatever is removed meanwhile. Blocks.
    pub fn hold(&self) -> Result<Held, CopyError> {
        match self {
            Self::Embedded(log) => log.hold(),
        }
    }

    /// Ends when the log has failed for good, with the reason: the process has to end then.
    pub async fn failed(&self) -> String {
        match self {
            Self::Embedded(log) => log.failed().await,
        }
    }

    /// Finishes what waits and records the clean stop. Blocks.
    pub fn close(&self) -> Result<(), String> {
        match self {
            Self::Embedded(log) => log.close(),
        }
    }
}

/// Reads records in order. Blocks on the disk: not for async code.
pub enum LogReader {
    Embedded(EmbeddedReader),
}

impl LogReader {
    /// The records from the one that holds `from` on, about `bytes_max` of them, at least one if there
    /// is one. They borrow the reader's buffer.
    pub fn read(&mut self, from: u64, bytes_max: usize) -> Result<Records<'_>, ReadError> {
        match self {
            Self::Embedded(reader) => reader.read(from, bytes_max).map(Records::Embedded),
        }
    }
}

/// What one read brought.
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

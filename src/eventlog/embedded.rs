//! The log on this machine's disk: the `journal` crate behind an async face. A reply goes out only after
//! the sync of the bytes it speaks of; many requests share one sync.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use journal::{Disk, FrameKind, Journal, Opened, Options, Signal, failpoint};
use tokio::sync::{oneshot, watch};

use super::copy::{CopyError, Held};
use super::record::{Record, RecordBuilder};
use super::{AppendError, Found, OpenError, ReadError};
use crate::event::LogId;
use crate::event::limits::{
    DISK_CHECK_INTERVAL, DISK_FREE_BYTES_MIN, DISK_FREE_SHARE_MIN, LOG_QUEUE_BYTES_MAX,
};

#[derive(Clone)]
pub struct Embedded {
    journal: Journal,
    end: watch::Receiver<u64>,
    failure: watch::Receiver<Option<String>>,
    nearly_full: Arc<AtomicBool>,
}

impl Embedded {
    pub fn open(data: &Path) -> Result<(Self, Found), OpenError> {
        let (end_sender, end) = watch::channel(0);
        let (failure_sender, failure) = watch::channel(None);
        let end_at_open = end_sender.clone();
        let options = Options {
            queue_bytes_max: LOG_QUEUE_BYTES_MAX,
            observer: Arc::new(move |signal| match signal {
                Signal::Durable { end } => drop(end_sender.send_replace(end)),
                Signal::Poisoned { reason } => drop(failure_sender.send_replace(Some(reason))),
            }),
            ..Options::default()
        };
        let folder = data.join("journal");
        let Opened { journal, recovery } = Journal::open(Disk::real(), &folder, options)
            .map_err(|error| OpenError::Journal(error.to_string()))?;
        end_at_open.send_replace(journal.end());
        let nearly_full = Arc::new(AtomicBool::new(false));
        if !failpoint::skips("eventlog.look_at_room") {
            watch_disk(folder, Arc::downgrade(&nearly_full));
        }
        let found = Found {
            created: recovery.created,
            clean_stop: recovery.clean_stop,
            torn_bytes_cut: recovery.torn_bytes_cut,
        };
        Ok((Self { journal, end, failure, nearly_full }, found))
    }

    pub fn id(&self) -> LogId {
        LogId(*self.journal.id().as_bytes())
    }

    pub fn begin(&self) -> u64 {
        self.journal.begin()
    }

    pub fn end(&self) -> u64 {
        self.journal.end()
    }

    pub fn bytes(&self) -> u64 {
        self.journal.bytes()
    }

    pub fn accepts(&self) -> Result<(), AppendError> {
        if let Some(reason) = self.failure.borrow().as_ref() {
            return Err(AppendError::Failed(reason.clone()));
        }
        match self.nearly_full.load(Ordering::Relaxed) {
            true => Err(AppendError::DiskFull),
            false => Ok(()),
        }
    }

    /// The record is in line when this returns; the future ends when it is durable.
    pub fn append(
        &self,
        record: &RecordBuilder,
    ) -> impl Future<Output = Result<u64, AppendError>> + Send + use<> {
        let receiver = self.accepts().map(|()| {
            let count = NonZeroU32::new(record.count()).expect("a record holds an event");
            let (sender, receiver) = oneshot::channel();
            // A requester that has gone meanwhile leaves its event in the log: it may be applied, it is not lost.
            self.journal.append(record.bytes(), count, Box::new(move |outcome| drop(sender.send(outcome))));
            receiver
        });
        async move {
            match receiver?.await {
                Ok(outcome) => outcome.map_err(refusal),
                Err(_) => Err(AppendError::Closed),
            }
        }
    }

    pub fn reader(&self) -> EmbeddedReader {
        EmbeddedReader { reader: self.journal.reader() }
    }

    pub fn follow(&self) -> watch::Receiver<u64> {
        self.end.clone()
    }

    pub fn hold(&self) -> Result<Held, CopyError> {
        Held::new(&self.journal)
    }

    pub async fn failed(&self) -> String {
        let mut failure = self.failure.clone();
        match failure.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            // The journal was closed in good order: nothing can fail any more.
            Err(_) => std::future::pending().await,
        }
    }

    pub fn close(&self) -> Result<(), String> {
        self.journal.close().map_err(|error| error.to_string())
    }
}

fn refusal(error: journal::AppendError) -> AppendError {
    match error {
        journal::AppendError::QueueFull => AppendError::QueueFull,
        journal::AppendError::DiskFull => AppendError::DiskFull,
        journal::AppendError::TooLarge { bytes_max, .. } => AppendError::TooLarge { bytes_max },
        journal::AppendError::Poisoned { reason } => AppendError::FailedUnder(reason),
        journal::AppendError::Closed => AppendError::Closed,
    }
}

/// Looks after the room on the disk, on a thread of its own because a sick disk may not answer.
fn watch_disk(folder: PathBuf, nearly_full: std::sync::Weak<AtomicBool>) {
    let look = move || {
        while let Some(flag) = nearly_full.upgrade() {
            if let Ok(disk) = rustix::fs::statvfs(&folder) {
                let total = disk.f_blocks * disk.f_frsize;
                let free = disk.f_bavail * disk.f_frsize;
                flag.store(free < free_bytes_min(total), Ordering::Relaxed);
            }
            drop(flag);
            std::thread::sleep(DISK_CHECK_INTERVAL);
        }
    };
    std::thread::Builder::new().name("disk-room".to_owned()).spawn(look).expect("a thread can be started");
}

fn free_bytes_min(total: u64) -> u64 {
    DISK_FREE_BYTES_MIN.min(total / DISK_FREE_SHARE_MIN)
}

pub struct EmbeddedReader {
    reader: journal::Reader,
}

impl EmbeddedReader {
    pub fn read(&mut self, from: u64, bytes_max: usize) -> Result<EmbeddedRecords<'_>, ReadError> {
        let chunk = self.reader.read(from, bytes_max).map_err(|error| match error {
            journal::ReadError::PastEnd { position, end } => ReadError::PastEnd { position, end },
            journal::ReadError::BelowBegin { position, begin } => ReadError::BelowBegin { position, begin },
            damaged => ReadError::Damaged(damaged.to_string()),
        })?;
        Ok(EmbeddedRecords { chunk })
    }
}

pub struct EmbeddedRecords<'a> {
    chunk: journal::Chunk<'a>,
}

impl EmbeddedRecords<'_> {
    pub fn iter(&self) -> impl Iterator<Item = Result<Record<'_>, ReadError>> {
        self.chunk.frames().map(|frame| match frame.kind {
            FrameKind::Lost => Ok(Record::hole(frame.position, frame.count)),
            FrameKind::Data => Record::decode(frame.position, frame.count, frame.payload).map_err(|error| {
                ReadError::Damaged(format!("record at position {}: {error}", frame.position))
            }),
        })
    }
}

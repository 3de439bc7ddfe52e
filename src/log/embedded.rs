//! The log on the local disk: an async interface to the `journal` crate. An append completes only after its bytes are
//! synced. Many appends share one sync.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use event::limits::LOG_QUEUE_BYTES_MAX;
use event::{LogId, Millis};
use journal::{
    Disk, Frame, FrameKind, Journal, Opened, Options, RewriteError, Signal, TrimError, WriterError,
};
use tokio::sync::{oneshot, watch};

use super::backup_copy::{CopyError, PinnedLog};
use super::disk_space::DiskSpace;
use super::record::{self, Record, RecordBuilder};
use super::{
    Ages, AppendError, CorrectionLock, EraseError, HistoryLock, OpenError, OpenReport, ReadError, Segment,
    UpkeepError,
};

#[derive(Clone)]
pub struct Embedded {
    journal: Journal,
    end: watch::Receiver<u64>,
    failure: watch::Receiver<Option<String>>,
    disk_space: Arc<DiskSpace>,
    ages: Ages,
    history_lock: HistoryLock,
    correction_lock: CorrectionLock,
}

impl Embedded {
    pub fn open(data: &Path) -> Result<(Self, OpenReport), OpenError> {
        let (end_sender, end) = watch::channel(0);
        let (failure_sender, failure) = watch::channel(None);
        let end_at_open = end_sender.clone();
        let sync_seconds = metrics::histogram!("millrace_log_sync_seconds");
        let options = Options {
            queue_bytes_max: LOG_QUEUE_BYTES_MAX,
            observer: Arc::new(move |signal| match signal {
                Signal::Durable { end, sync_time } => {
                    end_sender.send_replace(end);
                    sync_seconds.record(sync_time);
                }
                Signal::Poisoned { reason } => drop(failure_sender.send_replace(Some(reason))),
            }),
            ..Options::default()
        };
        let folder = data.join("journal");
        let Opened { journal, recovery } =
            Journal::open(Disk::real(), &folder, options).map_err(|error| {
                OpenError::Journal(match &error {
                    journal::OpenError::Io(source) => with_cause(source),
                    other => other.to_string(),
                })
            })?;
        end_at_open.send_replace(journal.end());
        let disk_space = if failpoint::skips("eventlog.look_at_room") {
            Arc::new(DiskSpace::unlimited())
        } else {
            DiskSpace::watched(folder)?
        };
        let id = journal.id();
        let ages = Ages::open(data, id, journal.end(), || received_ends(&journal));
        ages.keep_current(end.clone())?;
        let (history_lock, correction_lock) = (HistoryLock::default(), CorrectionLock::default());
        Ok((Self { journal, end, failure, disk_space, ages, history_lock, correction_lock }, recovery))
    }

    pub fn id(&self) -> LogId {
        self.journal.id()
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
        if self.disk_space.is_left() { Ok(()) } else { Err(AppendError::DiskFull) }
    }

    /// Queues the record before it returns. The future completes when the record is durable. `held` is dropped then, or
    /// when the record is refused, even if nobody waits for the future.
    pub fn append<H: Send + 'static>(
        &self,
        record: &RecordBuilder,
        held: H,
    ) -> impl Future<Output = Result<u64, AppendError>> + Send + use<H> {
        let receiver = self.accepts().map(|()| {
            let count = NonZeroU32::new(record.count()).expect("a record contains an event");
            let (sender, receiver) = oneshot::channel();
            self.disk_space.take(record.bytes().len());
            let done = move |outcome| {
                drop(held);
                // If the caller is gone by then, the event stays in the log and is applied like any other.
                drop(sender.send(outcome));
            };
            self.journal.append(record.bytes(), count, Box::new(done));
            receiver
        });
        async move {
            match receiver?.await {
                Ok(outcome) => outcome.map_err(append_error),
                Err(_) => Err(AppendError::Closed),
            }
        }
    }

    pub fn reader(&self) -> EmbeddedReader {
        EmbeddedReader { reader: self.journal.reader() }
    }

    pub fn segments(&self) -> Vec<Segment> {
        self.journal.segments()
    }

    pub fn seal(&self) -> Result<u64, UpkeepError> {
        self.journal.seal().map_err(upkeep_error)
    }

    pub fn ages(&self) -> &Ages {
        &self.ages
    }

    pub fn history_lock(&self) -> &HistoryLock {
        &self.history_lock
    }

    pub fn correction_lock(&self) -> &CorrectionLock {
        &self.correction_lock
    }

    pub fn trim(&self, before: u64) -> Result<u64, UpkeepError> {
        self.journal.trim(before).map_err(|error| match error {
            TrimError::Writer(source) => upkeep_error(source),
            TrimError::Io(source) => UpkeepError::Disk(with_cause(&source)),
        })
    }

    pub fn erase(&self, positions: &[u64]) -> Result<u64, EraseError> {
        let mut positions = positions.to_vec();
        positions.sort_unstable();
        let Some(&position) = positions.last() else {
            return Ok(0);
        };
        let end = self.end();
        if position >= end {
            return Err(EraseError::PastEnd { position, end });
        }
        if self.segments().last().is_some_and(|last| position >= last.first) {
            self.seal()?;
        }
        let mut erased = 0;
        for segment in self.segments() {
            let within = positions_in(&positions, segment.first, segment.end);
            if !within.is_empty() {
                erased += self.erase_in(&segment, within)?;
            }
        }
        Ok(erased)
    }

    /// Erases the events at `positions`, all of which are in a sealed segment. A record is rewritten even if it is
    /// blank already, because the result of an earlier erasure that failed may be visible without being durable.
    fn erase_in(&self, segment: &Segment, positions: &[u64]) -> Result<u64, EraseError> {
        let (mut erased, mut damage) = (0, None);
        let mut change = |frame: &Frame<'_>| {
            let within = positions_in(positions, frame.position, frame.end());
            if within.is_empty() || damage.is_some() {
                return None;
            }
            let mut payload = frame.payload.to_vec();
            match record::blank(frame.position, frame.count, &mut payload, within) {
                Ok(events) => erased += u64::from(events),
                Err(error) => {
                    damage = Some(format!("record at position {}: {error}", frame.position));
                    return None;
                }
            }
            Some(payload)
        };
        self.journal.rewrite(segment.first, segment.end, &mut change).map_err(erase_error)?;
        match damage {
            Some(damage) => Err(EraseError::Damaged(damage)),
            None => Ok(erased),
        }
    }

    pub fn follow(&self) -> watch::Receiver<u64> {
        self.end.clone()
    }

    pub fn pin(&self) -> Result<PinnedLog, CopyError> {
        PinnedLog::new(&self.journal)
    }

    pub async fn failed(&self) -> String {
        let mut failure = self.failure.clone();
        match failure.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            // The journal was closed, so it cannot fail any more.
            Err(_) => std::future::pending().await,
        }
    }

    pub fn close(&self) -> Result<(), String> {
        self.ages.save();
        self.journal.close().map_err(|error| error.to_string())
    }
}

/// Returns the end of the log at the times when the first and the last event of each segment were received. Skips
/// records that cannot be read.
fn received_ends(journal: &Journal) -> Vec<(Millis, u64)> {
    let mut reader = EmbeddedReader { reader: journal.reader() };
    let mut received = |position| {
        let records = reader.read(position, 1).ok()?;
        let record = records.iter().next()?.ok()?;
        record.header.map(|header| header.received)
    };
    let mut ends = Vec::new();
    for segment in journal.segments().into_iter().filter(|segment| segment.first < segment.end) {
        ends.extend(received(segment.first).map(|time| (time, segment.first)));
        ends.extend(received(segment.end - 1).map(|time| (time, segment.end)));
    }
    ends
}

fn append_error(error: journal::AppendError) -> AppendError {
    match error {
        journal::AppendError::QueueFull => AppendError::QueueFull,
        journal::AppendError::DiskFull => AppendError::DiskFull,
        journal::AppendError::TooLarge { bytes_max, .. } => AppendError::TooLarge { bytes_max },
        journal::AppendError::Poisoned { reason } => AppendError::FailedDuringAppend(reason),
        journal::AppendError::Closed => AppendError::Closed,
    }
}

fn upkeep_error(error: WriterError) -> UpkeepError {
    match error {
        WriterError::DiskFull => UpkeepError::DiskFull,
        WriterError::Poisoned { reason } => UpkeepError::Failed(reason),
        WriterError::Closed => UpkeepError::Closed,
        // Only a callback of an append could cause this, and no callback does.
        WriterError::OnWriterThread => UpkeepError::Failed(error.to_string()),
    }
}

fn erase_error(error: RewriteError) -> EraseError {
    match error {
        RewriteError::Writer(source) => upkeep_error(source).into(),
        RewriteError::Io(source) => UpkeepError::Disk(with_cause(&source)).into(),
        RewriteError::Corrupt { .. } | RewriteError::NotSealed { .. } | RewriteError::OtherLength { .. } => {
            EraseError::Damaged(error.to_string())
        }
    }
}

fn with_cause(error: &journal::DiskError) -> String {
    format!("{error}: {}", error.source)
}

/// Returns those of the sorted positions that are in `first..end`.
fn positions_in(positions: &[u64], first: u64, end: u64) -> &[u64] {
    let from = positions.partition_point(|position| *position < first);
    let to = positions.partition_point(|position| *position < end);
    &positions[from..to]
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

#[cfg(test)]
mod tests {
    use super::super::record::{Entry, Shape};
    use super::super::record_header::Header;
    use super::*;

    /// Returns a log with a sealed segment of four records, three events each, and a fifth record in the open
    /// segment.
    fn filled(data: &Path) -> Embedded {
        let (log, _) = Embedded::open(data).expect("opens");
        for number in 0..4 {
            append(&log, number);
        }
        log.seal().expect("seals");
        append(&log, 4);
        log
    }

    fn append(log: &Embedded, number: u64) {
        let mut record = RecordBuilder::new(&Header::of("revenue", Millis(0)), Shape::default(), 0);
        for at in number * 3..number * 3 + 3 {
            record.push(&Entry { text: &text(at), ..Entry::default() });
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        assert_eq!(runtime.block_on(log.append(&record, ())), Ok(number * 3));
    }

    fn text(position: u64) -> String {
        format!("{{\"mail\":\"ann{position}@example.com\"}}")
    }

    /// Returns the positions that are erased. Panics if another event has changed.
    fn erased(log: &Embedded) -> Vec<u64> {
        let (mut reader, mut next, mut erased) = (log.reader(), log.begin(), Vec::new());
        while next < log.end() {
            let records = reader.read(next, 50).expect("reads");
            for record in records.iter() {
                let record = record.expect("decodes");
                next = record.end();
                for entry in record.entries() {
                    let (position, entry) = entry.expect("decodes");
                    assert_eq!(entry.text.len(), text(position).len());
                    if entry.erased() {
                        erased.push(position);
                    } else {
                        assert_eq!(entry.text, text(position));
                    }
                }
            }
        }
        erased
    }

    #[test]
    fn an_erased_text_is_in_no_file_and_nothing_else_changes() {
        let data = tempfile::tempdir().expect("a folder");
        let log = filled(data.path());
        assert_eq!(log.erase(&[]), Ok(0));
        assert_eq!(log.segments().len(), 2);
        assert_eq!(log.erase(&[7, 0, 7]), Ok(2));
        assert_eq!(log.segments().len(), 2, "no position is in the last segment");
        assert_eq!(erased(&log), [0, 7]);
        // An event that is erased a second time is counted again. The last segment has to be sealed first.
        assert_eq!(log.erase(&[7, 13]), Ok(2));
        assert_eq!((erased(&log), log.segments().len()), (vec![0, 7, 13], 3));
        assert_eq!(log.erase(&[1, 15]), Err(EraseError::PastEnd { position: 15, end: 15 }));
        log.close().expect("stops");
        assert_eq!(log.erase(&[1]), Err(EraseError::Upkeep(UpkeepError::Closed)));

        let (log, _) = Embedded::open(data.path()).expect("opens");
        assert_eq!(erased(&log), [0, 7, 13]);
        for file in std::fs::read_dir(data.path().join("journal")).expect("lists") {
            let bytes = std::fs::read(file.expect("lists").path()).expect("reads");
            for position in [0, 7, 13] {
                let text = text(position);
                assert!(bytes.windows(text.len()).all(|window| window != text.as_bytes()), "{position}");
            }
        }
    }

    #[test]
    fn erasing_skips_trimmed_events() {
        let data = tempfile::tempdir().expect("a folder");
        let log = filled(data.path());
        assert_eq!(log.trim(11), Ok(0), "the last event of the segment is kept");
        assert_eq!(log.trim(12), Ok(12));
        assert_eq!(log.erase(&[3, 12]), Ok(1));
        assert_eq!(erased(&log), [12]);
    }

    #[test]
    fn erasing_from_an_unreadable_record_fails() {
        let data = tempfile::tempdir().expect("a folder");
        let log = filled(data.path());
        let (sender, receiver) = std::sync::mpsc::channel();
        let done = move |outcome| sender.send(outcome).expect("somebody waits");
        log.journal.append(b"no record", NonZeroU32::MIN, Box::new(done));
        assert_eq!(receiver.recv().expect("an answer"), Ok(15));
        log.seal().expect("seals");
        assert!(matches!(log.erase(&[0, 15]), Err(EraseError::Damaged(_))));
        assert_eq!(log.erase(&[0]), Ok(1));
    }
}

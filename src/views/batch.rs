//! A batch contains the events of one stream from a range of log positions, without those that dedup marked as
//! repeats. It borrows the reader's buffer, so nothing is copied before the fold.

use std::borrow::Cow;
use std::cell::RefCell;
use std::net::IpAddr;
use std::ops::Range;

use event::limits::BATCH_BYTES_MAX;
use event::{EventId, LogId, Millis, SentFrom};
use tokio::runtime::Handle;

use super::undoing::Undoing;
use crate::log::{EventLog, Header, LogReader, ReadError, Records, Retry, Traces};
use crate::store::{DEDUP_STORED_NAME, Halt, Store, StoreError};

/// An event as a fold sees it. A correction has the id, text and time of the event that it undoes, so that the fold
/// can reverse what it did for that event.
#[derive(Clone, Debug)]
pub struct Event<'a> {
    /// The event's own position. For a correction, this is the position of the correction.
    pub position: u64,
    pub id: EventId,
    pub text: Cow<'a, str>,
    pub received: Millis,
    pub sent_from: EventSender<'a>,
    /// The dead letter of which this event is a retry.
    pub retry_of: Option<EventId>,
    /// For a correction: the position of the event that it undoes.
    pub corrects: Option<u64>,
}

/// Where an event was sent from.
#[derive(Clone, Debug, Default)]
pub struct EventSender<'a> {
    pub address: Option<IpAddr>,
    pub client: Option<Cow<'a, str>>,
    pub user_agent: Option<Cow<'a, str>>,
}

impl<'a> From<SentFrom<'a>> for EventSender<'a> {
    fn from(SentFrom { address, client, user_agent }: SentFrom<'a>) -> Self {
        Self { address, client: client.map(Cow::Borrowed), user_agent: user_agent.map(Cow::Borrowed) }
    }
}

impl EventSender<'_> {
    pub fn into_owned(self) -> EventSender<'static> {
        let owned = |text: Option<Cow<'_, str>>| text.map(|text| Cow::Owned(text.into_owned()));
        EventSender { address: self.address, client: owned(self.client), user_agent: owned(self.user_agent) }
    }
}

pub struct Batch<'a> {
    pub events: Vec<Event<'a>>,
    pub span: Range<u64>,
    /// The first position at which a repair of the log lost events, of any stream.
    pub hole: Option<u64>,
    /// True if the batch has no corrections and no retried dead letters, so it does not depend on what the view wrote
    /// to the store.
    pub plain: bool,
    pub traces: Traces,
}

/// The view and the stream that a batch is read for.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    pub view: &'a str,
    pub stream: &'a str,
}

impl Wanted<'_> {
    /// Returns whether the view applies the events of a record with this header.
    fn has(&self, header: &Header<'_>) -> bool {
        // No view has seen the event of a dead letter of dedup, so its retry is for all views.
        let for_view = |retry: Retry<'_>| retry.view == self.view || retry.view == DEDUP_STORED_NAME;
        header.stream == self.stream && header.retry.is_none_or(for_view)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    #[error("{0}")]
    Log(#[from] ReadError),
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl From<BatchError> for Halt {
    fn from(error: BatchError) -> Self {
        match error {
            BatchError::Store(error) => error.into(),
            BatchError::Log(error) => Self::Pause(error.to_string()),
        }
    }
}

/// The limits of a batch.
#[derive(Clone, Copy)]
pub struct BatchLimits {
    /// The position before which the batch ends.
    pub until: u64,
    pub events_max: usize,
}

pub struct BatchReader {
    reader: LogReader,
    /// Reads the events that corrections undo. They may be far from the batch.
    targets: RefCell<LogReader>,
    log: LogId,
    store: Store,
    runtime: Handle,
}

impl BatchReader {
    pub fn new(log: &EventLog, store: &Store, runtime: &Handle) -> Self {
        Self {
            reader: log.reader(),
            targets: RefCell::new(log.reader()),
            log: log.id(),
            store: store.clone(),
            runtime: runtime.clone(),
        }
    }

    /// Reads records for a batch that begins at `from`.
    pub fn records(&mut self, from: u64, bytes_max: usize) -> Result<Read<'_>, BatchError> {
        let records = self.reader.read(from, bytes_max)?;
        let (targets, store, runtime) = (&self.targets, &self.store, &self.runtime);
        Ok(Read { records, targets, log: self.log, store, runtime, from })
    }
}

/// Records in the reader's buffer, from which a batch is made.
pub struct Read<'a> {
    records: Records<'a>,
    targets: &'a RefCell<LogReader>,
    log: LogId,
    store: &'a Store,
    runtime: &'a Handle,
    from: u64,
}

impl Read<'_> {
    pub fn batch(&self, wanted: Wanted<'_>, limits: BatchLimits) -> Result<Batch<'_>, BatchError> {
        let mut events: Vec<Event<'_>> = Vec::new();
        let (mut end, mut has_identities, mut has_corrections, mut hole) = (self.from, false, false, None);
        let mut has_retries = false;
        let mut traces = Traces::default();
        'records: for record in self.records.iter() {
            let record = record?;
            if record.position >= limits.until {
                break;
            }
            if record.header.is_none() {
                hole = hole.or(Some(record.position));
            }
            let Some(header) = record.header.as_ref().filter(|header| wanted.has(header)) else {
                end = record.end().min(limits.until);
                continue;
            };
            let retry_of = header.retry.filter(|retry| retry.view == wanted.view);
            let retry_of = retry_of.map(|retry| retry.dead_letter);
            has_identities |= record.has_identity();
            has_retries |= retry_of.is_some();
            traces.note(&record);
            for entry in record.entries() {
                let (position, entry) = entry.map_err(|error| ReadError::Damaged(error.to_string()))?;
                if position < self.from {
                    continue;
                }
                if position >= limits.until || events.len() == limits.events_max {
                    break 'records;
                }
                end = position + 1;
                // An erased event has no text to fold.
                if entry.erased() {
                    continue;
                }
                has_corrections |= entry.corrects.is_some();
                events.push(Event {
                    position,
                    id: entry.client.map_or_else(|| EventId::at(self.log, position), |(id, _)| id),
                    text: Cow::Borrowed(entry.text),
                    received: header.received,
                    sent_from: header.sent_from.into(),
                    retry_of,
                    corrects: entry.corrects,
                });
            }
        }
        if has_identities {
            self.remove_repeats(&mut events, end)?;
        }
        if has_retries {
            end = self.resolve_retries(&mut events, end)?;
        }
        if has_corrections {
            end = self.resolve_corrections(wanted.view, &mut events, end)?;
        }
        let plain = !has_corrections && !has_retries;
        Ok(Batch { events, span: self.from..end, hole, plain, traces })
    }

    /// Returns the positions of the view's events before `until`, and the position at which these records or `until`
    /// end. Repeats and erased events are included, because finding them takes more than the heads of the records.
    pub fn positions(&self, wanted: Wanted<'_>, until: u64) -> Result<(Vec<Range<u64>>, u64), BatchError> {
        let (mut found, mut end) = (Vec::new(), self.from);
        for record in self.records.iter() {
            let record = record?;
            if record.position >= until {
                break;
            }
            end = record.end().min(until);
            if record.header.as_ref().is_some_and(|header| wanted.has(header)) {
                found.push(record.position.max(self.from)..end);
            }
        }
        Ok((found, end))
    }

    /// Gives each retried dead letter the id of its original event, and returns the end of the batch.
    ///
    /// A retry without a dead letter is possible after the store was set back to an older state. Then the view may be
    /// about to refuse the original event once more, so the batch ends before the retry. If nothing precedes the retry,
    /// the view has applied the original event this time, and would count it twice with its retry.
    fn resolve_retries(&self, events: &mut Vec<Event<'_>>, end: u64) -> Result<u64, StoreError> {
        let mut kept = Vec::with_capacity(events.len());
        for mut event in std::mem::take(events) {
            if let Some(id) = event.retry_of {
                match self.runtime.block_on(self.store.dead_letter(id))? {
                    Some(dead_letter) => event.id = dead_letter.event_id,
                    None if kept.is_empty() => continue,
                    None => {
                        *events = kept;
                        return Ok(event.position);
                    }
                }
            }
            kept.push(event);
        }
        *events = kept;
        Ok(end)
    }

    /// Replaces each correction by the event that it undoes. Removes corrections without effect: an earlier
    /// correction undid the event, or the view never applied it. Ends the batch early if the texts together are too
    /// large. Returns the end of the batch.
    fn resolve_corrections(
        &self,
        view: &str,
        events: &mut Vec<Event<'_>>,
        end: u64,
    ) -> Result<u64, BatchError> {
        let effective = self.runtime.block_on(self.store.corrections(self.log, self.from, end))?;
        let undoing =
            Undoing { view, log: self.log, store: self.store, runtime: self.runtime, reader: self.targets };
        let mut bytes = 0;
        for event in std::mem::take(events) {
            let Some(target) = event.corrects else {
                events.push(event);
                continue;
            };
            if effective.binary_search(&(event.position, target)).is_err() {
                continue;
            }
            if bytes >= BATCH_BYTES_MAX {
                return Ok(event.position);
            }
            if let Some(undone) = undoing.event(target, event.position)? {
                bytes += undone.text.len();
                events.push(undone);
            }
        }
        Ok(end)
    }

    fn remove_repeats(&self, events: &mut Vec<Event<'_>>, end: u64) -> Result<(), StoreError> {
        let skipped = self.runtime.block_on(self.store.skipped_positions(self.log, self.from, end))?;
        if !skipped.is_empty() && !failpoint::skips("views.leave_out") {
            events.retain(|event| skipped.binary_search(&event.position).is_err());
        }
        Ok(())
    }
}

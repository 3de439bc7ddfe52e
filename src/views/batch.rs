//! A batch: the events of one stream among consecutive positions of the log, read together, without
//! what the gate marked. Borrowed from the reader's buffer; nothing is copied before the fold.

use std::borrow::Cow;
use std::cell::RefCell;
use std::net::IpAddr;
use std::ops::Range;

use event::limits::BATCH_BYTES_MAX;
use event::{EventId, LogId, Millis};
use journal::failpoint;
use tokio::runtime::Handle;

use crate::dedup::STORED_NAME;
use crate::log::{EventLog, LogReader, ReadError, Records, Traces};
use crate::store::{Halt, Store, StoreError};

/// One event as a fold sees it. A correction is the event that it takes back, once more: a fold undoes
/// what it did for it.
#[derive(Clone, Debug)]
pub struct Event<'a> {
    /// Its own place, also a correction's.
    pub position: u64,
    pub id: EventId,
    pub text: Cow<'a, str>,
    pub received: Millis,
    /// Who sent it, as far as is known.
    pub address: Option<IpAddr>,
    /// The dead letter that this event is, sent again.
    pub letter: Option<EventId>,
    /// The position of the event taken back, whose id, text and time these are.
    pub corrects: Option<u64>,
}

pub struct Batch<'a> {
    pub events: Vec<Event<'a>>,
    pub span: Range<u64>,
    /// Where a repair had to give events up, whichever stream they were of.
    pub hole: Option<u64>,
    /// Whether all of it is as the log has it: nothing had to be asked of what the view itself has written.
    pub plain: bool,
    pub traces: Traces,
}

/// Whose events a batch holds.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    pub view: &'a str,
    pub stream: &'a str,
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

/// How much of what was read a batch may hold.
#[derive(Clone, Copy)]
pub struct BatchLimits {
    pub until: u64,
    pub events_max: usize,
}

pub struct BatchReader {
    reader: LogReader,
    /// Reads what corrections take back, far from where the batch is.
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

/// Records in the reader's buffer, of which batches are made.
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
        let (mut end, mut gated, mut corrected, mut hole) = (self.from, false, false, None);
        let mut traces = Traces::default();
        'records: for record in self.records.iter() {
            let record = record?;
            if record.position >= limits.until {
                break;
            }
            if record.header.is_none() {
                hole = hole.or(Some(record.position));
            }
            let Some(header) = record.header.as_ref().filter(|header| header.stream == wanted.stream) else {
                end = record.end().min(limits.until);
                continue;
            };
            let letter = match header.retry {
                Some(retry) if retry.view == wanted.view => Some(retry.letter),
                // The gate's letters were seen by no view yet: sent again they are for all of them.
                Some(retry) if retry.view == STORED_NAME => None,
                Some(_) => {
                    end = record.end().min(limits.until);
                    continue;
                }
                None => None,
            };
            gated |= record.has_identity();
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
                // Of an event that was erased, nothing is left to fold.
                if entry.erased() {
                    continue;
                }
                corrected |= entry.corrects.is_some();
                events.push(Event {
                    position,
                    id: entry.client.map_or_else(|| EventId::at(self.log, position), |(id, _)| id),
                    text: Cow::Borrowed(entry.text),
                    received: header.received,
                    address: header.address,
                    letter,
                    corrects: entry.corrects,
                });
            }
        }
        if gated {
            self.leave_out_repeats(&mut events, end)?;
        }
        self.name_dead_letters(&mut events)?;
        let plain = !corrected && events.iter().all(|event| event.letter.is_none());
        if corrected {
            end = self.put_in_what_is_taken_back(wanted.view, &mut events, end)?;
        }
        Ok(Batch { events, span: self.from..end, hole, plain, traces })
    }

    /// Makes of each correction the event that it takes back, and leaves out those that take nothing back:
    /// another was faster, or the view never applied the event. Where the texts grow too large together the
    /// batch ends early; its new end is the answer.
    fn put_in_what_is_taken_back(
        &self,
        view: &str,
        events: &mut Vec<Event<'_>>,
        end: u64,
    ) -> Result<u64, BatchError> {
        let effective = self.runtime.block_on(self.store.corrections(self.log, self.from, end))?;
        let mut bytes = 0;
        for event in std::mem::take(events) {
            let Some(target) = event.corrects else {
                events.push(event);
                continue;
            };
            let takes = effective.binary_search(&(event.position, target)).is_ok();
            let passed = self.store.passed_positions(view, self.log, target, target + 1);
            if !takes || !self.runtime.block_on(passed)?.is_empty() {
                continue;
            }
            if bytes >= BATCH_BYTES_MAX {
                return Ok(event.position);
            }
            if let Some(taken) = self.corrected(view, target, event.position)? {
                bytes += taken.text.len();
                events.push(taken);
            }
        }
        Ok(end)
    }

    /// The event at `target` as the correction at `position` undoes it; `None` once it is erased, and for a
    /// dead letter that was sent again to another view.
    fn corrected(
        &self,
        view: &str,
        target: u64,
        position: u64,
    ) -> Result<Option<Event<'static>>, BatchError> {
        let mut reader = self.targets.borrow_mut();
        let records = match reader.read(target, 1) {
            Err(ReadError::BelowBegin { .. }) => return Ok(None),
            records => records?,
        };
        for record in records.iter() {
            let record = record?;
            let Some(header) = &record.header else { continue };
            if header.retry.is_some_and(|retry| retry.view != view && retry.view != STORED_NAME) {
                continue;
            }
            for entry in record.entries() {
                let (at, entry) = entry.map_err(|error| ReadError::Damaged(error.to_string()))?;
                if at != target || entry.erased() {
                    continue;
                }
                return Ok(Some(Event {
                    position,
                    id: entry.client.map_or_else(|| EventId::at(self.log, target), |(id, _)| id),
                    text: Cow::Owned(entry.text.to_owned()),
                    received: header.received,
                    address: header.address,
                    letter: None,
                    corrects: Some(target),
                }));
            }
        }
        Ok(None)
    }

    /// A dead letter that is sent again is the event that it was, and has its id.
    fn name_dead_letters(&self, events: &mut [Event<'_>]) -> Result<(), StoreError> {
        for event in events {
            if let Some(letter) = event.letter
                && let Some(letter) = self.runtime.block_on(self.store.dead_letter(letter))?
            {
                event.id = letter.event_id;
            }
        }
        Ok(())
    }

    fn leave_out_repeats(&self, events: &mut Vec<Event<'_>>, end: u64) -> Result<(), StoreError> {
        let skipped = self.runtime.block_on(self.store.skipped_positions(self.log, self.from, end))?;
        if !skipped.is_empty() && !failpoint::skips("views.leave_out") {
            events.retain(|event| skipped.binary_search(&event.position).is_err());
        }
        Ok(())
    }
}

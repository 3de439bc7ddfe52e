//! A batch: the events of one stream among consecutive positions of the log, read together, without
//! what the gate marked. Borrowed from the reader's buffer; nothing is copied before the fold.

use std::ops::Range;

use crate::event::EventId;
use crate::eventlog::{EventLog, LogReader, ReadError, Records, Traces};
use crate::gate::GATE;
use crate::store::{Store, StoreError};
use journal::failpoint;
use tokio::runtime::Handle;

/// One event as a fold sees it.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    pub position: u64,
    pub id: EventId,
    pub text: &'a str,
    pub received: crate::event::Millis,
    /// The dead letter that this event is, sent again.
    pub letter: Option<EventId>,
}

pub struct Batch<'a> {
    pub events: Vec<Event<'a>>,
    pub span: Range<u64>,
    /// Where a repair had to give events up, whichever stream they were of.
    pub hole: Option<u64>,
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

/// How much of what was read a batch may hold.
#[derive(Clone, Copy)]
pub struct BatchLimits {
    pub until: u64,
    pub events_max: usize,
}

pub struct BatchReader {
    reader: LogReader,
    log: crate::event::LogId,
    store: Store,
    runtime: Handle,
}

impl BatchReader {
    pub fn new(log: &EventLog, store: &Store, runtime: &Handle) -> Self {
        Self { reader: log.reader(), log: log.id(), store: store.clone(), runtime: runtime.clone() }
    }

    /// Reads records for a batch that begins at `from`.
    pub fn records(&mut self, from: u64, bytes_max: usize) -> Result<Read<'_>, BatchError> {
        let records = self.reader.read(from, bytes_max)?;
        Ok(Read { records, log: self.log, store: &self.store, runtime: &self.runtime, from })
    }
}

/// Records in the reader's buffer, of which batches are made.
pub struct Read<'a> {
    records: Records<'a>,
    log: crate::event::LogId,
    store: &'a Store,
    runtime: &'a Handle,
    from: u64,
}

impl Read<'_> {
    pub fn batch(&self, wanted: Wanted<'_>, limits: BatchLimits) -> Result<Batch<'_>, BatchError> {
        let mut events: Vec<Event<'_>> = Vec::new();
        let (mut end, mut gated, mut hole) = (self.from, false, None);
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
                Some(retry) if retry.view == GATE => None,
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
                let id = entry.client.map_or_else(|| EventId::at(self.log, position), |(id, _)| id);
                events.push(Event { position, id, text: entry.text, received: header.received, letter });
                end = position + 1;
            }
        }
        if gated {
            self.leave_out_repeats(&mut events, end)?;
        }
        Ok(Batch { events, span: self.from..end, hole, traces })
    }

    fn leave_out_repeats(&self, events: &mut Vec<Event<'_>>, end: u64) -> Result<(), StoreError> {
        let skipped = self.runtime.block_on(self.store.skipped_positions(self.log, self.from, end))?;
        if !skipped.is_empty() && !failpoint::skips("views.leave_out") {
            events.retain(|event| skipped.binary_search(&event.position).is_err());
        }
        Ok(())
    }
}

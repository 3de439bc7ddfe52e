//! The way through the log beside a view that goes on: batches as the view got them, and what it has come to
//! meanwhile.

use event::limits::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX};
use journal::failpoint;

use super::{Asked, RebuildError};
use crate::store::{StoreError, rows_deleted};
use crate::views::batch::{Batch, BatchLimits, BatchReader, Wanted};
use crate::views::runner::Held;

/// How far it has come.
pub struct Walk<'a> {
    asked: Asked<'a>,
    reader: BatchReader,
    at: u64,
}

impl<'a> Walk<'a> {
    pub fn new(asked: Asked<'a>, at: u64) -> Self {
        Self { asked, reader: BatchReader::new(asked.log, asked.store, asked.runtime), at }
    }

    /// Batches up to `until`, without what the view passed by.
    pub fn each(
        &mut self,
        until: u64,
        mut work: impl FnMut(&Batch<'_>) -> Result<(), RebuildError>,
    ) -> Result<(), RebuildError> {
        let Asked { view, log, store, runtime, .. } = self.asked;
        let name = &view.view.name;
        while self.at < until {
            failpoint::hit("rebuild.batch");
            self.asked.go_on()?;
            let limits = BatchLimits { until, events_max: BATCH_EVENTS_MAX };
            let read = self.reader.records(self.at, BATCH_BYTES_MAX)?;
            let mut batch = read.batch(Wanted { view: name, stream: &view.view.stream }, limits)?;
            if let Some(position) = batch.hole {
                return Err(RebuildError::HistoryLost(position));
            }
            let passed = store.passed_positions(name, log.id(), self.at, batch.span.end);
            let passed = runtime.block_on(passed)?;
            batch.events.retain(|event| passed.binary_search(&event.position).is_err());
            work(&batch)?;
            self.at = batch.span.end;
        }
        Ok(())
    }
}

impl Asked<'_> {
    /// What is given up is noted before it goes. So what was read is whole if nothing is noted after it was.
    pub fn history_is_whole(&self) -> Result<(), RebuildError> {
        let Self { view, log, store, runtime, .. } = *self;
        if log.begin() > 0 {
            return Err(RebuildError::HistoryGone(log.begin()));
        }
        let deleted_history = runtime.block_on(store.deleted_history(&view.view.stream, log.id()))?;
        if let Some(deleted_history) = deleted_history.filter(|deleted_history| deleted_history.position > 0)
        {
            return Err(RebuildError::HistoryGone(deleted_history.position));
        }
        match runtime.block_on(store.deleted_history(&rows_deleted(&view.view.name), log.id()))? {
            Some(_) => Err(RebuildError::RowsGivenUp(view.view.name.clone())),
            None => Ok(()),
        }
    }

    /// Folding a long log must not hold up the end of the process; begun again, it does the same.
    pub fn go_on(&self) -> Result<(), RebuildError> {
        match self.stop.asked() {
            true => Err(RebuildError::Ended(self.view.view.name.clone())),
            false => Ok(()),
        }
    }

    /// Where the view is; `None` before its first event.
    pub fn position(&self) -> Result<Option<u64>, StoreError> {
        self.runtime.block_on(self.store.position(&self.view.view.name, self.log.id()))
    }

    pub fn hold(&self) -> Result<Held, RebuildError> {
        let ended = || RebuildError::Ended(self.view.view.name.clone());
        self.runtime.block_on(self.view.hold()).ok_or_else(ended)
    }

    /// Positions within `from..to` whose events the view has taken back by now, in order.
    pub fn corrected(&self, from: u64, to: u64) -> Result<Vec<u64>, RebuildError> {
        let (name, log) = (&self.view.view.name, self.log.id());
        let pairs = self.runtime.block_on(self.store.corrected(log, from, to))?;
        if pairs.is_empty() {
            return Ok(Vec::new());
        }
        let applied = self.position()?.unwrap_or(0);
        let mut gone = Vec::with_capacity(pairs.len());
        for (position, by) in pairs {
            let passed = self.store.passed_positions(name, log, by, by + 1);
            if by < applied && self.runtime.block_on(passed)?.is_empty() {
                gone.push(position);
            }
        }
        Ok(gone)
    }
}

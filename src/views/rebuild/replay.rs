//! Replays the log while a view continues: reads the batches that the view applied, and tells how far the view is.

use std::cell::RefCell;

use event::limits::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX};

use super::{Context, RebuildError};
use crate::store::{StoreError, rows_deleted};
use crate::views::batch::{Batch, BatchLimits, BatchReader, Event, Wanted};
use crate::views::definition_ranges::{DefinitionRange, DefinitionRanges};
use crate::views::runner::HoldGuard;
use crate::views::undoing::Undoing;

/// A replay of the log for one view.
pub struct LogReplay<'a> {
    context: Context<'a>,
    definitions: &'a DefinitionRanges,
    reader: BatchReader,
    at: u64,
}

impl<'a> LogReplay<'a> {
    pub fn new(context: Context<'a>, definitions: &'a DefinitionRanges, at: u64) -> Self {
        let reader = BatchReader::new(context.log, context.store, context.runtime);
        Self { context, definitions, reader, at }
    }

    /// Calls `work` with each batch up to `until`, without the events that the view could not apply, and with the
    /// definition that applies to it.
    pub fn each(
        &mut self,
        until: u64,
        mut work: impl FnMut(&Batch<'_>, &DefinitionRange) -> Result<(), RebuildError>,
    ) -> Result<(), RebuildError> {
        let Context { view, log, store, runtime, .. } = self.context;
        let name = &view.view.name;
        while self.at < until {
            failpoint::hit("rebuild.batch");
            self.context.fail_if_stopped()?;
            let Some((range, end)) = self.definitions.at(self.at) else { return Ok(()) };
            let until = end.map_or(until, |end| end.min(until));
            let limits = BatchLimits { until, events_max: BATCH_EVENTS_MAX };
            let read = self.reader.records(self.at, BATCH_BYTES_MAX)?;
            let mut batch = read.batch(Wanted { view: name, stream: &range.view.stream }, limits)?;
            if let Some(position) = batch.hole {
                return Err(RebuildError::HistoryLost(position));
            }
            let passed = store.passed_positions(name, log.id(), self.at, batch.span.end);
            let passed = runtime.block_on(passed)?;
            batch.events.retain(|event| passed.binary_search(&event.position).is_err());
            work(&batch, range)?;
            self.at = batch.span.end;
        }
        Ok(())
    }
}

impl Context<'_> {
    /// Fails if retention has deleted events or rows of the view. A deletion is recorded before it happens. So what
    /// was read from the log is complete if this succeeds after the read.
    pub fn fail_if_history_deleted(&self) -> Result<(), RebuildError> {
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
            Some(_) => Err(RebuildError::RowsDeleted(view.view.name.clone())),
            None => Ok(()),
        }
    }

    /// Fails if a stop is requested, so that the replay of a long log does not delay it. A repeated replay gives the
    /// same result.
    pub fn fail_if_stopped(&self) -> Result<(), RebuildError> {
        if self.stop.asked() { Err(RebuildError::Ended(self.view.view.name.clone())) } else { Ok(()) }
    }

    /// Returns the view's position in the store, or `None` before its first event.
    pub fn position(&self) -> Result<Option<u64>, StoreError> {
        self.runtime.block_on(self.store.position(&self.view.view.name, self.log.id()))
    }

    /// Puts the view on hold.
    pub fn hold(&self) -> Result<HoldGuard, RebuildError> {
        let ended = || RebuildError::Ended(self.view.view.name.clone());
        self.runtime.block_on(self.view.hold()).ok_or_else(ended)
    }

    /// Returns the positions of the batch whose events the view has undone by now, in order.
    pub fn undone(&self, batch: &Batch<'_>) -> Result<Vec<u64>, RebuildError> {
        let (name, log) = (&self.view.view.name, self.log.id());
        let pairs = self.runtime.block_on(self.store.corrected(log, batch.span.start, batch.span.end))?;
        let retries: Vec<&Event<'_>> = batch.events.iter().filter(|event| event.retry_of.is_some()).collect();
        if pairs.is_empty() && retries.is_empty() {
            return Ok(Vec::new());
        }
        let applied = self.position()?.unwrap_or(0);
        let mut undone = Vec::with_capacity(pairs.len());
        let reader = RefCell::new(self.log.reader());
        let undoing = Undoing { view: name, log, store: self.store, runtime: self.runtime, reader: &reader };
        for retry in retries {
            if undoing.undid_retry(retry, applied)? {
                undone.push(retry.position);
            }
        }
        for (position, by) in pairs {
            let passed = self.store.passed_positions(name, log, by, by + 1);
            if by < applied && self.runtime.block_on(passed)?.is_empty() {
                undone.push(position);
            }
        }
        undone.sort_unstable();
        Ok(undone)
    }
}

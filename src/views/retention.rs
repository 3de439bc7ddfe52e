//! Retention deletes old data: the beginning of the log, the texts of a stream, and rows that views made. It
//! deletes only what the configuration names, and never an event that a view has not applied yet.
//!
//! The search for old data holds no lock. Each deletion holds the history lock for a short time: meanwhile, nobody
//! reads the log's past, and no correction of an old event is admitted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;

use event::limits::{
    BATCH_BYTES_MAX, RETENTION_DEDUP_DURATION_MAX, RETENTION_DURATION_MIN, RETENTION_INTERVAL,
    RETENTION_ROWS_MAX, SEGMENTS_PER_RETENTION_MIN,
};
use event::{Progress, Stop};
use tokio::runtime::Handle;

use super::rebuild::SHADOW;
use super::{RetentionPolicy, View};
use crate::log::{Ages, DeletionGuard, EraseError, EventLog, ReadError, Segment, UpkeepError};
use crate::store::{DeletedHistory, LOG_DELETED, RowsOf, Store, StoreError, rows_deleted, shown_name};

#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error("{0}")]
    Erase(#[from] EraseError),
    #[error("{0}")]
    Upkeep(#[from] UpkeepError),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("`log-ages.json` cannot be written: {0}")]
    Ages(#[from] std::io::Error),
}

pub struct Retention {
    pub policy: RetentionPolicy,
    /// The views, whose rows are deleted.
    pub views: BTreeMap<String, View>,
    pub ages: Ages,
    pub log: EventLog,
    pub store: Store,
    pub progress: Progress,
    pub runtime: Handle,
    pub stop: Stop,
}

/// The permission to delete events below `floor`. It holds the history lock.
struct DeletionPermit {
    floor: u64,
    _history: DeletionGuard,
}

impl Retention {
    /// Starts the retention thread. Returns `None` if the policy keeps everything.
    pub fn start(self) -> std::io::Result<Option<JoinHandle<()>>> {
        if self.policy.keeps_everything() {
            return Ok(None);
        }
        event::start_thread("retention", move || self.run()).map(Some)
    }

    fn run(&self) {
        let mut on_hold = false;
        while !self.stop.asked() {
            // After a start, views first read their positions from the store.
            let caught_up = async {
                tokio::select! {
                    () = self.stop.wait() => {}
                    _ = self.progress.drained(self.log.end(), RETENTION_INTERVAL) => {}
                }
            };
            self.runtime.block_on(caught_up);
            let hold_left = self.ages.hold_remaining();
            match hold_left {
                Some(hold_left) if !on_hold => {
                    tracing::info!(
                        hours = hold_left.as_secs() / 3600,
                        "retention is on hold because the system clock jumped"
                    );
                }
                None if on_hold => tracing::info!("retention continues"),
                _ => {}
            }
            on_hold = hold_left.is_some();
            if !on_hold {
                match self.pass() {
                    Ok(()) => {
                        tracing::debug!(begin = self.log.begin(), "retention has looked for old events");
                    }
                    Err(error) => {
                        tracing::warn!(%error, "retention could not delete old events and will try again");
                    }
                }
            }
            self.runtime.block_on(self.stop.within(RETENTION_INTERVAL));
        }
    }

    /// Deletes old data that nothing needs any more. Blocks.
    pub fn pass(&self) -> Result<(), RetentionError> {
        for (view, keep) in &self.policy.rows {
            if let Some(table) = self.views.get(view).and_then(View::row_table) {
                let rows =
                    RowsOf { view: view.clone(), log: self.log.id(), table: Arc::clone(table.table()) };
                self.delete_rows(&rows, self.ages.end_older_than(keep.0))?;
            }
        }
        self.seal_in_time()?;
        // Events from the floor on are still needed, so they are not searched.
        let floor = self.floor()?;
        let sealed = |segment: &Segment| segment.sealed && segment.end > segment.first;
        let segments = self.log.segments().into_iter();
        let segments: Vec<Segment> =
            segments.filter(|segment| sealed(segment) && segment.end <= floor).collect();
        for (stream, keep) in &self.policy.streams {
            self.blank_stream(stream, self.ages.end_older_than(keep.0), &segments)?;
        }
        self.delete_segments(&segments)
    }

    /// Takes the history lock. Returns `None` if the log's past is in use or dedup is behind: a later pass tries
    /// again.
    fn permit(&self) -> Result<Option<DeletionPermit>, RetentionError> {
        let Some(history_lock) = self.runtime.block_on(self.log.history_lock().lock_for_deletion()) else {
            return Ok(None);
        };
        // The store knows the target of a correction once dedup has processed it. While the lock is held, no further
        // correction arrives.
        let dedup = self.progress.dedup_reached(self.log.end(), RETENTION_DEDUP_DURATION_MAX);
        if self.runtime.block_on(dedup) {
            Ok(Some(DeletionPermit { floor: self.floor()?, _history: history_lock }))
        } else {
            Ok(None)
        }
    }

    /// Returns the position below which no view, correction or erasure needs an event any more.
    fn floor(&self) -> Result<u64, RetentionError> {
        let log = self.log.id();
        // Read this before the store's positions. A view that begins in between then counts with the position at
        // which it begins.
        let progress = self.progress.all();
        let stored = self.runtime.block_on(self.store.positions())?;
        let stored = || stored.iter().filter(|row| row.log == log && !row.view.ends_with(SHADOW));
        let has_begun = |view: &str| stored().any(|row| shown_name(&row.view) == view);
        let not_begun = progress.iter().filter(|(view, _)| !has_begun(view));
        let needed = stored().map(|row| row.position);
        let needed = needed.chain(not_begun.map(|(_, applied)| applied.position));
        let floor = needed.min().unwrap_or(0);
        // An open erasure still has to read its events, at any position.
        if self.runtime.block_on(self.store.has_open_erasure(log))? {
            return Ok(0);
        }
        // A correction from the floor on still has to read the event that it undoes.
        let corrected = self.runtime.block_on(self.store.first_corrected_from(log, floor))?;
        Ok(corrected.map_or(floor, |position| position.min(floor)))
    }

    /// Ends a segment that fills slowly before it covers too long a time, because only whole segments are deleted.
    fn seal_in_time(&self) -> Result<(), RetentionError> {
        let (Some(shortest), Some(last)) = (self.policy.shortest(), self.log.segments().last().copied())
        else {
            return Ok(());
        };
        if self.ages.end_older_than(shortest / SEGMENTS_PER_RETENTION_MIN) > last.first {
            self.log.seal()?;
        }
        Ok(())
    }

    fn delete_segments(&self, segments: &[Segment]) -> Result<(), RetentionError> {
        let RetentionPolicy { log, log_bytes, .. } = self.policy;
        let by_age = log.map_or(0, |keep| self.ages.end_older_than(keep.0));
        let by_size = self.ages.end_older_than(RETENTION_DURATION_MIN);
        let (mut old, mut bytes) = (Vec::new(), self.log.bytes());
        for segment in segments {
            let too_much = log_bytes.is_some_and(|most| bytes > most.0);
            if segment.end > by_age && !(too_much && segment.end <= by_size) {
                break;
            }
            old.push(segment.end);
            bytes = bytes.saturating_sub(segment.bytes);
        }
        if old.is_empty() {
            return Ok(());
        }
        let Some(permit) = self.permit()? else { return Ok(()) };
        if let Some(end) = old.into_iter().take_while(|end| *end <= permit.floor).last() {
            // Record the deletion first. A store without this record, for example a new one, cannot build the views
            // again from this log.
            let record = DeletedHistory { position: end, blanked: end };
            self.runtime.block_on(self.store.note_deleted_history(LOG_DELETED, self.log.id(), record))?;
            failpoint::hit("retention.trim_noted");
            let begin = self.log.trim(end)?;
            tracing::info!(begin, "retention deleted the beginning of the log");
        }
        Ok(())
    }

    /// Blanks the texts of old events of one stream. Events of other streams in the same segments are kept longer.
    fn blank_stream(&self, stream: &str, old_end: u64, segments: &[Segment]) -> Result<(), RetentionError> {
        let log = self.log.id();
        let known = self.runtime.block_on(self.store.deleted_history(stream, log))?;
        let mut known = known.unwrap_or(DeletedHistory { position: 0, blanked: 0 });
        let begin = known.blanked.max(self.log.begin());
        for segment in segments.iter().filter(|segment| segment.end > begin) {
            if segment.end > old_end {
                break;
            }
            let positions = self.positions_of(stream, segment)?;
            let Some(permit) = self.permit()? else { break };
            if segment.end > permit.floor || self.stop.asked() {
                break;
            }
            if !positions.is_empty() {
                // Record this first: a rebuild of a view of this stream must not treat the remaining events as
                // complete.
                known.position = segment.end;
                self.runtime.block_on(self.store.note_deleted_history(stream, log, known))?;
                self.ages.note_deletion(stream)?;
                failpoint::hit("retention.noted");
                let events = self.log.erase(&positions)?;
                failpoint::hit("retention.blanked");
                tracing::info!(
                    stream,
                    events,
                    until = segment.end,
                    "retention deleted old events of a stream"
                );
            }
            known.blanked = segment.end;
            self.runtime.block_on(self.store.note_deleted_history(stream, log, known))?;
        }
        Ok(())
    }

    fn positions_of(&self, stream: &str, segment: &Segment) -> Result<Vec<u64>, RetentionError> {
        let (mut reader, mut at, mut positions) = (self.log.reader(), segment.first, Vec::new());
        while at < segment.end {
            for record in reader.read(at, BATCH_BYTES_MAX)?.iter() {
                let record = record?;
                at = record.end();
                // A read may continue into the next segment.
                if record.position < segment.end
                    && record.header.as_ref().is_some_and(|header| header.stream == stream)
                {
                    positions.extend(record.position..record.end());
                }
            }
        }
        Ok(positions)
    }

    fn delete_rows(&self, of: &RowsOf, old_end: u64) -> Result<(), RetentionError> {
        let (mut total, log) = (0, self.log.id());
        while self.runtime.block_on(self.store.has_rows_below(&of.view, log, old_end))? {
            // The lock keeps out a rebuild, which would insert the rows again.
            let Some(_history) = self.runtime.block_on(self.log.history_lock().lock_for_deletion()) else {
                break;
            };
            // Record this first, so that a crash cannot leave a table that looks complete but is not.
            let record = DeletedHistory { position: 1, blanked: 1 };
            self.runtime.block_on(self.store.note_deleted_history(&rows_deleted(&of.view), log, record))?;
            failpoint::hit("retention.rows_noted");
            let deleted = self.store.delete_rows_below(of.clone(), old_end, RETENTION_ROWS_MAX);
            match self.runtime.block_on(deleted) {
                // The view itself reports the missing table.
                Err(StoreError::NoTable(_)) => break,
                deleted => total += deleted?,
            }
            failpoint::hit("retention.rows_deleted");
            if self.stop.asked() {
                break;
            }
        }
        if total > 0 {
            tracing::info!(view = of.view, rows = total, "retention deleted old rows");
        }
        Ok(())
    }
}

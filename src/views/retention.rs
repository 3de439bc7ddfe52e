//! Giving up what is old: the log's beginning, a stream's texts, rows that views made. Nothing that a view
//! has not applied yet is given up, and nothing by itself: whoever wants it says so in the configuration.
//!
//! What is old is looked for at leisure. It is given up piece by piece, each in a turn of its own, in which
//! nobody else reads the past and nothing comes in that needs it.

use std::collections::BTreeMap;
use std::thread::JoinHandle;
use std::time::Duration;

use event::limits::{
    BATCH_BYTES_MAX, RETENTION_DEDUP_DURATION_MAX, RETENTION_DURATION_MIN, RETENTION_INTERVAL,
    RETENTION_ROWS_MAX, SEGMENTS_A_RETENTION,
};
use event::{Progress, Stop};
use journal::failpoint;
use tokio::runtime::Handle;

use super::rebuild::SHADOW;
use crate::log::{Ages, EraseError, EventLog, HistoryDeletion, ReadError, Segment, UpkeepError};
use crate::store::{DeletedHistory, LOG_DELETED, RowsOf, Store, StoreError, rows_deleted};

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

/// For how long what is kept.
#[derive(Clone, Debug, Default)]
pub struct RetentionPolicy {
    pub log: Option<Duration>,
    pub log_bytes: Option<u64>,
    pub streams: BTreeMap<String, Duration>,
    pub rows: Vec<(RowsOf, Duration)>,
}

impl RetentionPolicy {
    fn nothing_is_given_up(&self) -> bool {
        self.log.is_none() && self.log_bytes.is_none() && self.streams.is_empty() && self.rows.is_empty()
    }

    /// The shortest time for which events are kept.
    fn shortest(&self) -> Option<Duration> {
        let bytes = self.log_bytes.map(|_| RETENTION_DURATION_MIN);
        self.log.into_iter().chain(bytes).chain(self.streams.values().copied()).min()
    }
}

pub struct Retention {
    pub keep: RetentionPolicy,
    pub ages: Ages,
    pub log: EventLog,
    pub store: Store,
    pub progress: Progress,
    pub runtime: Handle,
    pub stop: Stop,
}

/// The turn at giving up what lies below `floor`.
struct Turn {
    floor: u64,
    _past: HistoryDeletion,
}

impl Retention {
    /// `None` where everything is kept.
    pub fn start(self) -> std::io::Result<Option<JoinHandle<()>>> {
        if self.keep.nothing_is_given_up() {
            return Ok(None);
        }
        std::thread::Builder::new().name("retention".to_owned()).spawn(move || self.run()).map(Some)
    }

    fn run(&self) {
        let mut on_hold = false;
        while !self.stop.asked() {
            // At a start, views first find where they were.
            let settled = async {
                tokio::select! {
                    () = self.stop.wait() => {}
                    _ = self.progress.drained(self.log.end(), RETENTION_INTERVAL) => {}
                }
            };
            self.runtime.block_on(settled);
            let held = self.ages.held();
            match held {
                Some(held) if !on_hold => {
                    tracing::info!(
                        hours = held.as_secs() / 3600,
                        "retention is on hold after a leap of the clock"
                    );
                }
                None if on_hold => tracing::info!("retention goes on"),
                _ => {}
            }
            on_hold = held.is_some();
            if !on_hold {
                match self.pass() {
                    Ok(()) => {
                        tracing::debug!(begin = self.log.begin(), "retention has looked for old events");
                    }
                    Err(error) => {
                        tracing::warn!(%error, "retention could not delete old events and tries again later");
                    }
                }
            }
            self.runtime.block_on(self.stop.within(RETENTION_INTERVAL));
        }
    }

    /// Gives up what is old, as far as nobody needs it. Blocks.
    pub fn pass(&self) -> Result<(), RetentionError> {
        for (of, keep) in &self.keep.rows {
            self.give_up_rows(of, self.ages.end_older_than(*keep))?;
        }
        self.seal_in_time()?;
        // Above it, there is no use in looking for what is old.
        let floor = self.floor()?;
        let sealed = |segment: &Segment| segment.sealed && segment.end > segment.first;
        let segments = self.log.segments().into_iter();
        let segments: Vec<Segment> =
            segments.filter(|segment| sealed(segment) && segment.end <= floor).collect();
        for (stream, keep) in &self.keep.streams {
            self.give_up_texts(stream, self.ages.end_older_than(*keep), &segments)?;
        }
        self.give_up_segments(&segments)
    }

    /// `None` where somebody needs the past just now: it is old tomorrow, too.
    fn turn(&self) -> Result<Option<Turn>, RetentionError> {
        let Some(history_lock) = self.runtime.block_on(self.log.history_lock().give_up()) else {
            return Ok(None);
        };
        // What a correction takes back is known once the gate is past it, and none comes in during a turn.
        let dedup = self.progress.dedup_reached(self.log.end(), RETENTION_DEDUP_DURATION_MAX);
        match self.runtime.block_on(dedup) {
            true => Ok(Some(Turn { floor: self.floor()?, _past: history_lock })),
            false => Ok(None),
        }
    }

    /// Below this position, nothing is needed any more.
    fn floor(&self) -> Result<u64, RetentionError> {
        let log = self.log.id();
        // Before the store's: a view that begins in between begins where it is.
        let progress = self.progress.all();
        let stored = self.runtime.block_on(self.store.positions())?;
        let stored: BTreeMap<&str, u64> = stored
            .iter()
            .filter(|row| row.log == log && !row.view.ends_with(SHADOW))
            .map(|row| (row.view.as_str(), row.position))
            .collect();
        let not_begun = progress.iter().filter(|(view, _)| !stored.contains_key(view.as_str()));
        let places = stored.values().copied().chain(not_begun.map(|(_, applied)| applied.position));
        let floor = places.min().unwrap_or(0);
        // What is being erased is still to be read, wherever it is.
        if self.runtime.block_on(self.store.erases(log))? {
            return Ok(0);
        }
        // And so is what a correction beyond it takes back.
        let corrected = self.runtime.block_on(self.store.first_taken_back_from(log, floor))?;
        Ok(corrected.map_or(floor, |position| position.min(floor)))
    }

    /// Events are given up a segment at a time; one that fills slowly is ended before it spans too much.
    fn seal_in_time(&self) -> Result<(), RetentionError> {
        let (Some(shortest), Some(last)) = (self.keep.shortest(), self.log.segments().last().copied()) else {
            return Ok(());
        };
        if self.ages.end_older_than(shortest / SEGMENTS_A_RETENTION) > last.first {
            self.log.seal()?;
        }
        Ok(())
    }

    fn give_up_segments(&self, segments: &[Segment]) -> Result<(), RetentionError> {
        let RetentionPolicy { log, log_bytes, .. } = self.keep;
        let by_age = log.map_or(0, |keep| self.ages.end_older_than(keep));
        let by_size = self.ages.end_older_than(RETENTION_DURATION_MIN);
        let (mut old, mut bytes) = (Vec::new(), self.log.bytes());
        for segment in segments {
            let too_much = log_bytes.is_some_and(|most| bytes > most);
            if segment.end > by_age && !(too_much && segment.end <= by_size) {
                break;
            }
            old.push(segment.end);
            bytes = bytes.saturating_sub(segment.bytes);
        }
        if old.is_empty() {
            return Ok(());
        }
        let Some(turn) = self.turn()? else { return Ok(()) };
        if let Some(end) = old.into_iter().take_while(|end| *end <= turn.floor).last() {
            // Noted first: a store that knows nothing of it, as a new one would not, cannot make the views again.
            let given_up = DeletedHistory { position: end, blanked: end };
            self.runtime.block_on(self.store.note_deleted_history(LOG_DELETED, self.log.id(), given_up))?;
            failpoint::hit("retention.trim_noted");
            let begin = self.log.trim(end)?;
            tracing::info!(begin, "the beginning of the log was given up: it was old");
        }
        Ok(())
    }

    /// Blanks what is old of one stream among others that are kept longer.
    fn give_up_texts(&self, stream: &str, old_end: u64, segments: &[Segment]) -> Result<(), RetentionError> {
        let log = self.log.id();
        let known = self.runtime.block_on(self.store.deleted_history(stream, log))?;
        let mut known = known.unwrap_or(DeletedHistory { position: 0, blanked: 0 });
        let begin = known.blanked.max(self.log.begin());
        for segment in segments.iter().filter(|segment| segment.end > begin) {
            if segment.end > old_end {
                break;
            }
            let positions = self.positions_of(stream, segment)?;
            let Some(turn) = self.turn()? else { break };
            if segment.end > turn.floor || self.stop.asked() {
                break;
            }
            if !positions.is_empty() {
                // Said first: a rebuild of views of this stream must not take what is left for all there was.
                known.position = segment.end;
                self.runtime.block_on(self.store.note_deleted_history(stream, log, known))?;
                self.ages.give_up(stream)?;
                failpoint::hit("retention.noted");
                let events = self.log.erase(&positions)?;
                failpoint::hit("retention.blanked");
                tracing::info!(stream, events, until = segment.end, "old events of a stream were given up");
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
                // A reader reads on into the next one.
                if record.position < segment.end
                    && record.header.as_ref().is_some_and(|header| header.stream == stream)
                {
                    positions.extend(record.position..record.end());
                }
            }
        }
        Ok(positions)
    }

    fn give_up_rows(&self, of: &RowsOf, old_end: u64) -> Result<(), RetentionError> {
        let (mut given_up, log) = (0, self.log.id());
        while self.runtime.block_on(self.store.has_rows_below(&of.view, log, old_end))? {
            // A rebuild would put them back.
            let Some(_past) = self.runtime.block_on(self.log.history_lock().give_up()) else { break };
            // Said first, so that no crash leaves a table that looks whole.
            let some = DeletedHistory { position: 1, blanked: 1 };
            self.runtime.block_on(self.store.note_deleted_history(&rows_deleted(&of.view), log, some))?;
            failpoint::hit("retention.rows_noted");
            let deleted = self.store.delete_rows_below(of.clone(), old_end, RETENTION_ROWS_MAX);
            match self.runtime.block_on(deleted) {
                // The view waits for its table itself.
                Err(StoreError::NoTable(_)) => break,
                deleted => given_up += deleted?,
            }
            failpoint::hit("retention.rows_deleted");
            if self.stop.asked() {
                break;
            }
        }
        if given_up > 0 {
            tracing::info!(view = of.view, rows = given_up, "old rows were given up");
        }
        Ok(())
    }
}

//! Giving up what is old: the log's beginning, a stream's texts, rows that views made. Nothing that a view
//! has not applied yet is given up, and nothing by itself: whoever wants it says so in the configuration.

use std::collections::BTreeMap;
use std::thread::JoinHandle;
use std::time::Duration;

use journal::failpoint;
use tokio::runtime::Handle;

use crate::event::limits::{
    BATCH_BYTES_MAX, RETENTION_DURATION_MIN, RETENTION_INTERVAL, RETENTION_ROWS_MAX, SEGMENTS_A_RETENTION,
};
use crate::event::{Millis, Stop};
use crate::eventlog::{EraseError, EventLog, ReadError, Segment, UpkeepError};
use crate::store::{RowsOf, Store, StoreError};

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
}

/// For how long what is kept.
#[derive(Clone, Debug, Default)]
pub struct Keep {
    pub log: Option<Duration>,
    pub log_bytes: Option<u64>,
    pub streams: BTreeMap<String, Duration>,
    pub rows: Vec<(RowsOf, Duration)>,
}

impl Keep {
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
    pub keep: Keep,
    pub log: EventLog,
    pub store: Store,
    pub runtime: Handle,
    pub stop: Stop,
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
        while !self.stop.asked() {
            if let Err(error) = self.pass(Millis::now()) {
                tracing::warn!(%error, "what is old could not be given up; tried again later");
            }
            self.runtime.block_on(self.stop.within(RETENTION_INTERVAL));
        }
    }

    /// Gives up what is old at `now`. Blocks.
    pub fn pass(&self, now: Millis) -> Result<(), RetentionError> {
        for (of, keep) in &self.keep.rows {
            self.give_up_rows(of, before(now, *keep))?;
        }
        let Some(floor) = self.floor()? else { return Ok(()) };
        self.seal_in_time(now)?;
        for (stream, keep) in &self.keep.streams {
            self.give_up_texts(stream, before(now, *keep), floor)?;
        }
        self.give_up_segments(now, floor)
    }

    /// Below this position, every view that ever began is through. `None` if none has begun.
    fn floor(&self) -> Result<Option<u64>, RetentionError> {
        let log = self.log.id();
        let positions = self.runtime.block_on(self.store.positions())?;
        let Some(floor) = positions.iter().filter(|row| row.log == log).map(|row| row.position).min() else {
            return Ok(None);
        };
        // What a correction beyond it takes back is still to be read.
        let needed = self.runtime.block_on(self.store.first_taken_back_from(log, floor))?;
        Ok(Some(needed.map_or(floor, |needed| needed.min(floor))))
    }

    /// Events are given up a segment at a time; one that fills slowly is ended before it spans too much.
    fn seal_in_time(&self, now: Millis) -> Result<(), RetentionError> {
        let (Some(shortest), Some(last)) = (self.keep.shortest(), self.log.segments().last().copied()) else {
            return Ok(());
        };
        if last.end > last.first
            && self.received(last.first)?.0 < before(now, shortest / SEGMENTS_A_RETENTION).0
        {
            self.log.seal()?;
        }
        Ok(())
    }

    /// The sealed segments below `floor`, oldest first, with the time of their last event.
    fn done_with(&self, floor: u64) -> impl Iterator<Item = Result<(Segment, Millis), RetentionError>> {
        let segments = self.log.segments().into_iter();
        let ours = segments.filter(move |segment| segment.sealed && segment.end <= floor);
        ours.map(|segment| Ok((segment, self.received(segment.end - 1)?)))
    }

    fn received(&self, position: u64) -> Result<Millis, RetentionError> {
        let mut reader = self.log.reader();
        let records = reader.read(position, 1)?;
        let first = records.iter().next().transpose()?;
        // A hole where a repair gave events up has no time, and counts as old.
        Ok(first.and_then(|record| record.header.map(|header| header.received)).unwrap_or(Millis(0)))
    }

    fn give_up_segments(&self, now: Millis, floor: u64) -> Result<(), RetentionError> {
        let (mut cut, mut bytes) = (self.log.begin(), self.log.bytes());
        for segment in self.done_with(floor) {
            let (segment, last) = segment?;
            let old = |keep: Duration| last < before(now, keep);
            let too_old = self.keep.log.is_some_and(old);
            let too_much =
                self.keep.log_bytes.is_some_and(|most| bytes > most) && old(RETENTION_DURATION_MIN);
            if !too_old && !too_much {
                break;
            }
            cut = segment.end;
            bytes = bytes.saturating_sub(segment.bytes);
        }
        if cut > self.log.begin() {
            let begin = self.log.trim(cut)?;
            tracing::info!(begin, "the beginning of the log was given up: it was old");
        }
        Ok(())
    }

    /// Blanks what is old of one stream among others that are kept longer.
    fn give_up_texts(&self, stream: &str, before: Millis, floor: u64) -> Result<(), RetentionError> {
        let log = self.log.id();
        let known = self.runtime.block_on(self.store.retained(stream, log))?;
        let mut blanked = known.map_or(0, |retained| retained.blanked).max(self.log.begin());
        for segment in self.done_with(floor) {
            let (segment, last) = segment?;
            if segment.end <= blanked {
                continue;
            }
            if last >= before {
                break;
            }
            // Said first: a rebuild of views of this stream must not take what is left for all there was.
            self.runtime.block_on(self.store.note_retained(stream, log, segment.end, blanked))?;
            failpoint::hit("retention.noted");
            let events = self.log.erase(&self.positions_of(stream, &segment)?)?;
            failpoint::hit("retention.blanked");
            self.runtime.block_on(self.store.note_retained(stream, log, segment.end, segment.end))?;
            blanked = segment.end;
            tracing::info!(stream, events, until = segment.end, "old events of a stream were given up");
        }
        Ok(())
    }

    fn positions_of(&self, stream: &str, segment: &Segment) -> Result<Vec<u64>, RetentionError> {
        let (mut reader, mut at, mut positions) = (self.log.reader(), segment.first, Vec::new());
        while at < segment.end {
            for record in reader.read(at, BATCH_BYTES_MAX)?.iter() {
                let record = record?;
                at = record.end();
                if record.position < segment.end
                    && record.header.as_ref().is_some_and(|header| header.stream == stream)
                {
                    positions.extend(record.position..record.end());
                }
            }
        }
        Ok(positions)
    }

    fn give_up_rows(&self, of: &RowsOf, before: Millis) -> Result<(), RetentionError> {
        let (mut given_up, log) = (0, self.log.id());
        if !self.runtime.block_on(self.store.has_rows_before(&of.view, log, before))? {
            return Ok(());
        }
        // Said first, so that no crash leaves a table that looks whole.
        self.runtime.block_on(self.store.note_retained(&rows_given_up(&of.view), log, 1, 1))?;
        while !self.stop.asked() {
            let deleted = self.store.delete_rows_received_before(of.clone(), before, RETENTION_ROWS_MAX);
            match self.runtime.block_on(deleted) {
                // The view has not begun, or waits for its table itself.
                Ok(0) | Err(StoreError::NoTable(_)) => break,
                deleted => given_up += deleted?,
            }
        }
        if given_up > 0 {
            tracing::info!(view = of.view, rows = given_up, "old rows were given up");
        }
        Ok(())
    }
}

/// Under which name it is noted that rows of a view were given up; no stream has a colon in its own.
pub fn rows_given_up(view: &str) -> String {
    format!("rows:{view}")
}

fn before(now: Millis, keep: Duration) -> Millis {
    Millis(now.0.saturating_sub(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX)))
}

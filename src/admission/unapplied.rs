//! Tells which events of a request a view did not apply, for a sender who waits for the views. The views have processed
//! the events then; those that a view could not apply became dead letters.

use std::collections::BTreeSet;
use std::ops::Range;

use event::UploadId;
use event::limits::{CHUNK_LINES_MAX, DEAD_LETTERS_ANSWERED_MAX, SKIPPED_READ_POSITIONS_MAX};

use super::{Admission, Refusal};
use crate::store::{DEDUP_STORED_NAME, DeadLetterSummary, Skipped, shown_name};

/// The events of a request, as they are in the log.
#[derive(Clone, Debug, Default)]
pub struct WrittenEvents {
    /// The positions of its records, in order. Adjacent records are one range.
    pub ranges: Vec<Range<u64>>,
    /// Some events have an id or are lines of an upload, so that dedup may have skipped them.
    pub identified: bool,
    /// The events that the request's corrections undo.
    pub corrects: Vec<u64>,
    /// The upload of a request of lines, and its lines.
    pub upload: Option<(UploadId, Range<u64>)>,
}

impl WrittenEvents {
    /// Adds a record with the events at these positions.
    pub fn add(&mut self, positions: Range<u64>) {
        match self.ranges.last_mut() {
            Some(last) if last.end == positions.start => last.end = positions.end,
            _ => self.ranges.push(positions),
        }
    }

    pub fn end(&self) -> u64 {
        self.ranges.last().map_or(0, |range| range.end)
    }

    fn hull(&self) -> Range<u64> {
        self.ranges.first().map_or(0, |range| range.start)..self.end()
    }
}

/// The events of a request that some view did not apply.
#[derive(Debug, Default)]
pub struct NotApplied {
    /// The first dead letters: of the events themselves, or of the events that they repeat.
    pub dead_letters: Vec<DeadLetterSummary>,
    /// There are more dead letters than these.
    pub more: bool,
    /// The positions of events that repeat an event with the same body. Not set for lines.
    pub repeats: Vec<u64>,
    /// An event repeats one that another node received, and whose views have not processed it.
    pub waits_for_node: bool,
}

impl NotApplied {
    pub fn is_empty(&self) -> bool {
        self.dead_letters.is_empty() && !self.waits_for_node
    }

    fn is_full(&self) -> bool {
        self.dead_letters.len() > DEAD_LETTERS_ANSWERED_MAX
    }
}

impl Admission {
    /// Returns which of these events a view did not apply, although all views of the stream have processed them. The
    /// usual request takes one query, or two if its events have ids.
    pub async fn not_applied(&self, stream: &str, written: &WrittenEvents) -> Result<NotApplied, Refusal> {
        let mut found = Search { admission: self, stream, written, found: NotApplied::default() };
        found.events().await?;
        if written.identified {
            found.repeats().await?;
        }
        if let Some((upload, lines)) = &written.upload {
            found.repeated_lines(*upload, lines).await?;
        }
        if !written.corrects.is_empty() {
            found.earlier_corrections().await?;
        }
        let mut found = found.found;
        found.more = found.is_full();
        found.dead_letters.truncate(DEAD_LETTERS_ANSWERED_MAX);
        for dead_letter in &mut found.dead_letters {
            dead_letter.view = shown_name(&dead_letter.view).to_owned();
        }
        Ok(found)
    }
}

struct Search<'a> {
    admission: &'a Admission,
    stream: &'a str,
    written: &'a WrittenEvents,
    found: NotApplied,
}

/// One more than an answer lists, so that it can say that there are more.
const LIMIT: usize = DEAD_LETTERS_ANSWERED_MAX + 1;

impl Search<'_> {
    /// Finds the dead letters of the events themselves.
    async fn events(&mut self) -> Result<(), Refusal> {
        let (store, log) = (self.admission.store(), self.admission.log.id());
        let hull = self.written.hull();
        let found = store.unapplied(log, hull.start, hull.end, LIMIT).await?;
        if self.written.ranges.len() < 2 || found.is_empty() {
            self.add(found);
            return Ok(());
        }
        // The events of other requests lie in between.
        for range in &self.written.ranges {
            if self.found.is_full() {
                break;
            }
            let found = store.unapplied(log, range.start, range.end, LIMIT).await?;
            self.add(found);
        }
        Ok(())
    }

    /// Finds repeats, and the dead letters of the events that they repeat.
    async fn repeats(&mut self) -> Result<(), Refusal> {
        let (store, log) = (self.admission.store(), self.admission.log.id());
        for range in self.written.ranges.clone() {
            let (mut at, mut any) = (range.start, false);
            while at < range.end {
                let end = range.end.min(at + SKIPPED_READ_POSITIONS_MAX);
                let skipped = store.skipped_events(log, at, end).await?;
                any |= !skipped.is_empty();
                self.found.waits_for_node |= self.waits_for_node(&skipped).await?;
                if self.written.upload.is_none() {
                    let repeats = skipped.iter().filter(|skipped| skipped.same_body);
                    self.found.repeats.extend(repeats.map(|skipped| skipped.position));
                }
                at = end;
            }
            if any && !self.found.is_full() {
                let found = store.unapplied_originals(log, range.start, range.end, LIMIT).await?;
                let found = self.of_lines(found).await?;
                self.add(found);
            }
        }
        Ok(())
    }

    /// Returns whether one of these repeats an event of another node that the views have not processed there.
    async fn waits_for_node(&self, skipped: &[Skipped]) -> Result<bool, Refusal> {
        let own = self.admission.log.id();
        let elsewhere = || skipped.iter().filter(|skipped| skipped.first_log != own);
        if elsewhere().next().is_none() {
            return Ok(false);
        }
        let positions = self.admission.store().positions().await?;
        let views = self.admission.progress.of_stream(self.stream);
        Ok(elsewhere().any(|skipped| {
            !views.keys().all(|view| {
                positions.iter().any(|row| {
                    row.view == *view && row.log == skipped.first_log && row.position > skipped.first_position
                })
            })
        }))
    }

    /// Finds the dead letters of the lines that the request repeats. A repeated line is known by the run of lines that
    /// has its original, which may itself repeat an earlier run.
    async fn repeated_lines(&mut self, upload: UploadId, lines: &Range<u64>) -> Result<(), Refusal> {
        let (store, log) = (self.admission.store(), self.admission.log.id());
        let (mut known, mut runs) = (BTreeSet::new(), self.written.ranges.clone());
        while !runs.is_empty() {
            let mut new = BTreeSet::new();
            for run in runs {
                let mut at = run.start;
                while at < run.end {
                    let end = run.end.min(at + SKIPPED_READ_POSITIONS_MAX);
                    let skipped = store.skipped_events(log, at, end).await?;
                    let own = skipped.iter().filter(|skipped| skipped.first_log == log);
                    new.extend(own.map(|skipped| skipped.first_position));
                    at = end;
                }
            }
            new.retain(|first| known.insert(*first));
            runs = merged(&new);
            for run in &runs {
                let mut at = run.start;
                while at < run.end && !self.found.is_full() {
                    let found = store.unapplied(log, at, run.end, LIMIT).await?;
                    at = match found.last() {
                        Some(last) if found.len() == LIMIT => last.position + 1,
                        _ => run.end,
                    };
                    let found = self.lines_among(found, upload, lines).await?;
                    self.add(found);
                }
            }
        }
        Ok(())
    }

    /// Leaves out the dead letters of other lines of the same upload.
    async fn of_lines(&self, found: Vec<DeadLetterSummary>) -> Result<Vec<DeadLetterSummary>, Refusal> {
        match &self.written.upload {
            // `repeated_lines` finds them.
            Some((upload, _)) => {
                let mut kept = Vec::new();
                for dead_letter in found {
                    if self.line_of(dead_letter.position).await?.is_none_or(|(of, _)| of != *upload) {
                        kept.push(dead_letter);
                    }
                }
                Ok(kept)
            }
            None => Ok(found),
        }
    }

    async fn lines_among(
        &self,
        found: Vec<DeadLetterSummary>,
        upload: UploadId,
        lines: &Range<u64>,
    ) -> Result<Vec<DeadLetterSummary>, Refusal> {
        let mut kept = Vec::new();
        // A conflict is never the original of a line.
        for dead_letter in found.into_iter().filter(|letter| letter.view != DEDUP_STORED_NAME) {
            let line = self.line_of(dead_letter.position).await?;
            if line.is_some_and(|(of, line)| of == upload && lines.contains(&line)) {
                kept.push(dead_letter);
            }
        }
        Ok(kept)
    }

    async fn line_of(&self, position: u64) -> Result<Option<(UploadId, u64)>, Refusal> {
        let log = self.admission.log.clone();
        let read = tokio::task::spawn_blocking(move || log.upload_line(position)).await;
        let line = read.map_err(|_| Refusal::Stopping)??;
        Ok(line.map(|line| (line.upload, line.line)))
    }

    /// Finds the dead letters of earlier corrections of the same events. The request's own ones have no effect then.
    async fn earlier_corrections(&mut self) -> Result<(), Refusal> {
        let (store, log) = (self.admission.store(), self.admission.log.id());
        for by in store.corrections_of(log, &self.written.corrects).await? {
            if !self.written.ranges.iter().any(|range| range.contains(&by)) && !self.found.is_full() {
                let found = store.unapplied(log, by, by + 1, LIMIT).await?;
                self.add(found);
            }
        }
        Ok(())
    }

    /// Adds dead letters of the stream's views and of dedup, each once.
    fn add(&mut self, found: Vec<DeadLetterSummary>) {
        let views = self.admission.progress.of_stream(self.stream);
        for dead_letter in found {
            if self.found.dead_letters.iter().any(|known| known.id == dead_letter.id) {
                continue;
            }
            if dead_letter.view == DEDUP_STORED_NAME || views.contains_key(&dead_letter.view) {
                self.found.dead_letters.push(dead_letter);
            }
        }
    }
}

/// Returns the positions of the runs that begin at `firsts`, with overlapping ones merged.
fn merged(firsts: &BTreeSet<u64>) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for first in firsts {
        let end = first + CHUNK_LINES_MAX as u64;
        match runs.last_mut() {
            Some(last) if last.end >= *first => last.end = end,
            _ => runs.push(*first..end),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_records_are_one_range() {
        let mut written = WrittenEvents::default();
        [3..5, 5..9, 12..13].into_iter().for_each(|range| written.add(range));
        assert_eq!((written.ranges.clone(), written.hull(), written.end()), (vec![3..9, 12..13], 3..13, 13));
    }

    #[test]
    fn runs_that_overlap_are_merged() {
        let firsts = BTreeSet::from([0, 10, 1_010, 5_000]);
        assert_eq!(merged(&firsts), [0..2_010, 5_000..6_000]);
    }
}

//! Tells which events of a request a view did not apply, for a sender who waits for the views. The views have processed
//! the events then; those that a view could not apply became dead letters.

use std::collections::BTreeSet;
use std::ops::Range;

use event::UploadId;
use event::limits::{
    ANSWERED_CORRECTIONS_MAX, ANSWERED_RANGES_MAX, ANSWERED_RUNS_MAX, DEAD_LETTERS_ANSWERED_MAX,
    SKIPPED_READ_POSITIONS_MAX,
};

use super::{Admission, Refusal};
use crate::store::{DEDUP_STORED_NAME, DeadLetterSummary, Skipped, shown_name};

/// The events of a request, as they are in the log.
#[derive(Clone, Debug, Default)]
pub struct WrittenEvents {
    /// The positions of its records, in order. Adjacent records are one range.
    ranges: Vec<Range<u64>>,
    /// Some events have an id or are lines of an upload, so that dedup may have skipped them.
    pub identified: bool,
    /// The answer lists repeats.
    pub lists_repeats: bool,
    /// The events that the request's corrections undo.
    corrects: Vec<u64>,
    /// The upload of a request of lines, and its lines.
    pub upload: Option<(UploadId, Range<u64>)>,
    /// There are too many ranges or corrections to look up. `ranges` still has the end, and may contain other events.
    is_too_large: bool,
}

impl WrittenEvents {
    pub fn new(identified: bool) -> Self {
        Self { identified, ..Self::default() }
    }

    /// Adds a record with the events at these positions.
    pub fn add(&mut self, positions: Range<u64>) {
        let is_full = self.ranges.len() == ANSWERED_RANGES_MAX;
        match self.ranges.last_mut() {
            Some(last) if last.end == positions.start => last.end = positions.end,
            Some(last) if is_full => {
                last.end = positions.end;
                self.is_too_large = true;
            }
            _ => self.ranges.push(positions),
        }
    }

    /// Adds the positions of events that corrections of the request undo.
    pub fn add_corrections(&mut self, positions: impl Iterator<Item = u64>) {
        for position in positions {
            if self.corrects.len() == ANSWERED_CORRECTIONS_MAX {
                self.is_too_large = true;
                return;
            }
            self.corrects.push(position);
        }
    }

    pub fn end(&self) -> u64 {
        self.ranges.last().map_or(0, |range| range.end)
    }

    fn contains(&self, position: u64) -> bool {
        let after = self.ranges.partition_point(|range| range.end <= position);
        self.ranges.get(after).is_some_and(|range| range.contains(&position))
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
    /// The positions of events that repeat an event with the same body, if the answer lists them.
    pub repeats: Vec<u64>,
    /// An event repeats one that another node received, and whose views have not processed it.
    waits_for_node: bool,
    /// There are more events to look up than the limits allow.
    is_too_large: bool,
}

impl NotApplied {
    pub fn is_empty(&self) -> bool {
        self.dead_letters.is_empty() && !self.is_unknown()
    }

    /// Returns true if this does not tell whether every view applied the events.
    pub fn is_unknown(&self) -> bool {
        self.waits_for_node || self.is_too_large
    }

    fn is_full(&self) -> bool {
        self.dead_letters.len() > DEAD_LETTERS_ANSWERED_MAX
    }
}

impl Admission {
    /// Returns which of these events a view did not apply, although all views of the stream have processed them. The
    /// usual request takes one query, or two if its events have ids.
    pub async fn not_applied(&self, stream: &str, written: &WrittenEvents) -> Result<NotApplied, Refusal> {
        if written.is_too_large {
            return Ok(NotApplied { is_too_large: true, ..NotApplied::default() });
        }
        let of_stream = self.progress.of_stream(stream).into_keys();
        let views = of_stream.chain([DEDUP_STORED_NAME.to_owned()]).collect();
        let mut found = Search { admission: self, stream, views, written, found: NotApplied::default() };
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
    /// The views of the stream, and dedup. Views that are no longer configured do not count.
    views: Vec<String>,
    written: &'a WrittenEvents,
    found: NotApplied,
}

/// One more than an answer lists, so that it can say that there are more.
const LIMIT: usize = DEAD_LETTERS_ANSWERED_MAX + 1;

impl Search<'_> {
    /// Finds the dead letters of the events themselves.
    async fn events(&mut self) -> Result<(), Refusal> {
        let found = self.unapplied(self.written.hull()).await?;
        if self.written.ranges.len() < 2 || found.is_empty() {
            self.add(found);
            return Ok(());
        }
        // The events of other requests lie in between.
        for range in &self.written.ranges {
            if self.found.is_full() {
                break;
            }
            let found = self.unapplied(range.clone()).await?;
            self.add(found);
        }
        Ok(())
    }

    async fn unapplied(&self, range: Range<u64>) -> Result<Vec<DeadLetterSummary>, Refusal> {
        let (store, log) = (self.admission.store(), self.admission.log.id());
        Ok(store.unapplied(&self.views, log, range, LIMIT).await?)
    }

    /// Finds repeats, and the dead letters of the events that they repeat.
    async fn repeats(&mut self) -> Result<(), Refusal> {
        let (store, log) = (self.admission.store(), self.admission.log.id());
        for range in &self.written.ranges {
            // The repeats of an array are listed even if the dead letters are too many.
            if self.found.is_full() && !self.written.lists_repeats {
                break;
            }
            let (mut at, mut any) = (range.start, false);
            while at < range.end {
                let end = range.end.min(at + SKIPPED_READ_POSITIONS_MAX);
                let skipped = store.skipped_events(log, at, end).await?;
                any |= !skipped.is_empty();
                self.found.waits_for_node |= self.waits_for_node(&skipped).await?;
                if self.written.lists_repeats {
                    let repeats = skipped.iter().filter(|skipped| skipped.same_body);
                    self.found.repeats.extend(repeats.map(|skipped| skipped.position));
                }
                at = end;
            }
            if any && !self.found.is_full() {
                let found = store.unapplied_originals(&self.views, log, range.clone(), LIMIT).await?;
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
    /// has its original, which may itself repeat an earlier run. Other events in these runs are not followed: they may
    /// lead back through the whole log.
    async fn repeated_lines(&mut self, upload: UploadId, lines: &Range<u64>) -> Result<(), Refusal> {
        let (store, log) = (self.admission.store(), self.admission.log.id());
        let (mut known, mut pending) = (BTreeSet::new(), self.written.ranges.clone());
        while let Some(run) = pending.pop() {
            let mut at = run.start;
            while at < run.end {
                let end = run.end.min(at + SKIPPED_READ_POSITIONS_MAX);
                let skipped = store.skipped_events(log, at, end).await?;
                let mut firsts: Vec<u64> = skipped
                    .iter()
                    .filter(|skipped| skipped.first_log == log)
                    .map(|skipped| skipped.first_position)
                    .collect();
                firsts.dedup();
                for first in firsts {
                    if self.found.is_full() {
                        return Ok(());
                    }
                    if !known.insert(first) {
                        continue;
                    }
                    if known.len() > ANSWERED_RUNS_MAX {
                        self.found.is_too_large = true;
                        return Ok(());
                    }
                    // The original of a line's own id is no line of the upload, and `repeats` has found it.
                    let earlier = self.lines_in_record(first, upload, lines).await?;
                    for run in runs(&earlier) {
                        self.dead_letters_of_lines(&run).await?;
                        pending.push(run);
                    }
                }
                at = end;
            }
        }
        Ok(())
    }

    /// Finds the dead letters of these lines, which a request repeats.
    async fn dead_letters_of_lines(&mut self, run: &Range<u64>) -> Result<(), Refusal> {
        let mut at = run.start;
        while at < run.end && !self.found.is_full() {
            let mut found = self.unapplied(at..run.end).await?;
            at = match found.last() {
                // Other views may have dead letters of the last event, too.
                Some(last) if found.len() == LIMIT => last.position.max(at + 1),
                _ => run.end,
            };
            // A conflict is never the original of a line.
            found.retain(|dead_letter| dead_letter.view != DEDUP_STORED_NAME);
            self.add(found);
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

    async fn lines_in_record(
        &self,
        position: u64,
        upload: UploadId,
        lines: &Range<u64>,
    ) -> Result<Vec<u64>, Refusal> {
        let (log, lines) = (self.admission.log.clone(), lines.clone());
        let read = tokio::task::spawn_blocking(move || log.lines_in_record(position, upload, &lines)).await;
        Ok(read.map_err(|_| Refusal::Stopping)??)
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
            if !self.written.contains(by) && !self.found.is_full() {
                let found = self.unapplied(by..by + 1).await?;
                self.add(found);
            }
        }
        Ok(())
    }

    /// Adds dead letters, each once.
    fn add(&mut self, found: Vec<DeadLetterSummary>) {
        for dead_letter in found {
            if self.found.dead_letters.iter().all(|known| known.id != dead_letter.id) {
                self.found.dead_letters.push(dead_letter);
            }
        }
    }
}

/// Returns the ranges of adjacent positions, which are in order.
fn runs(positions: &[u64]) -> impl Iterator<Item = Range<u64>> {
    let adjacent = positions.chunk_by(|one, next| one + 1 == *next);
    adjacent.map(|run| run[0]..run[run.len() - 1] + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_records_are_one_range() {
        let mut written = WrittenEvents::default();
        [3..5, 5..9, 12..13].into_iter().for_each(|range| written.add(range));
        assert_eq!((written.ranges.clone(), written.hull(), written.end()), (vec![3..9, 12..13], 3..13, 13));
        let contained: Vec<u64> = (0..20).filter(|position| written.contains(*position)).collect();
        assert_eq!(contained, [3, 4, 5, 6, 7, 8, 12]);
    }

    #[test]
    fn ranges_above_the_limit_are_not_kept_one_by_one() {
        let mut written = WrittenEvents::default();
        let record = |number: usize| number as u64 * 2..number as u64 * 2 + 1;
        (0..ANSWERED_RANGES_MAX).for_each(|number| written.add(record(number)));
        assert!(!written.is_too_large);
        (0..5).for_each(|more| written.add(record(ANSWERED_RANGES_MAX + more)));
        assert!(written.is_too_large);
        assert_eq!(written.ranges.len(), ANSWERED_RANGES_MAX);
        assert_eq!(
            written.end(),
            record(ANSWERED_RANGES_MAX + 4).end,
            "the views are waited for all the same"
        );
    }

    #[test]
    fn corrections_above_the_limit_are_not_kept() {
        let mut written = WrittenEvents::default();
        let max = ANSWERED_CORRECTIONS_MAX as u64;
        written.add_corrections(0..max);
        assert!(!written.is_too_large);
        written.add_corrections(max..max + 5);
        assert!(written.is_too_large);
        assert_eq!(written.corrects.len(), ANSWERED_CORRECTIONS_MAX);
    }

    #[test]
    fn adjacent_positions_are_one_run() {
        assert_eq!(runs(&[2, 3, 4, 7, 9, 10]).collect::<Vec<_>>(), [2..5, 7..8, 9..11]);
        assert_eq!(runs(&[]).count(), 0);
    }
}

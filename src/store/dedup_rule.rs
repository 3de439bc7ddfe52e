//! The dedup rule: which events of an identity are repeats, and which of them conflict with an earlier body. Pure: the
//! stored rows are read by `rules/dedup.rs`, inside the transaction that stores the new ones.

use std::time::Duration;

use event::{BodyHash, EventId, LogId, Millis};

use super::dead_letter_change::NewDeadLetter;

/// One identity that dedup looks up and stores: a client's event id, or a run of lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DedupEntry {
    pub key: DedupKey,
    pub hash: BodyHash,
    /// Stored rows that expired before this time do not count. It comes from the log, so the result does not depend on
    /// which old rows are already deleted. A store that is rebuilt from the log gets the same result.
    pub received: Millis,
    /// Until when the new row counts; `None` if it is kept without a time limit.
    pub expires: Option<Millis>,
    /// The positions of the events. For a run of lines, each with its line number.
    pub events: Vec<(u64, u64)>,
    /// The dead letters to write if the identity was used before for another body.
    pub conflict: Vec<NewDeadLetter>,
}

/// By how much the system clock has jumped ahead within each of some times, the shortest time first. An id from before
/// a jump appears older than it is by that much, so it counts for longer.
#[derive(Clone, Debug, Default)]
pub struct ClockJumps(pub Vec<(Duration, Duration)>);

impl ClockJumps {
    /// Returns the jumps within a time, in milliseconds.
    pub fn within(&self, span: i64) -> i64 {
        let covers = |(time, _): &&(Duration, Duration)| time.as_millis() as i64 >= span;
        let jumps = self.0.iter().find(covers).or(self.0.last());
        jumps.map_or(0, |(_, jumped)| jumped.as_millis() as i64)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DedupKey {
    Event(EventId),
    Lines { upload: [u8; 16], first: u64, count: u32 },
}

impl DedupKey {
    /// Returns the key as it is stored: identity, first line, number of lines.
    pub fn parts(&self) -> ([u8; 16], u64, u64) {
        match self {
            Self::Event(id) => (*id.as_bytes(), 0, 1),
            Self::Lines { upload, first, count } => (*upload, *first, u64::from(*count)),
        }
    }
}

/// A position that dedup hides from all views.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skipped {
    pub position: u64,
    pub first_log: LogId,
    pub first_position: u64,
    pub same_body: bool,
}

/// A stored row with the same identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DedupRow {
    pub first: u64,
    pub count: u64,
    pub log: LogId,
    pub position: u64,
    pub hash: BodyHash,
}

/// The result of the dedup rule for one entry, given the stored rows that overlap it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Positions of the repeated events, each with the stored row that contains the event.
    pub repeats: Vec<(u64, DedupRow)>,
    pub same_body: bool,
    /// True if the entry itself has to be stored, because a part of it is new.
    pub note: bool,
}

impl DedupEntry {
    /// Applies the dedup rule. The same identity with the same body is a repeat; with another body it is a conflict.
    ///
    /// Lines of a kept upload may arrive in other runs than before. Lines that a stored run covers are repeats, and
    /// the others are new. A request body under an idempotency key is always cut the same way. A run that overlaps a
    /// stored one only partly therefore belongs to another body, and all of its events are conflicts. Comparing line
    /// by line would silently drop the lines that differ.
    pub fn verdict(&self, known: &[DedupRow]) -> Verdict {
        let (_, first, count) = self.key.parts();
        let exact = known.iter().find(|row| row.first == first && row.count == count);
        if let Some(row) = exact {
            let repeats = self.events.iter().map(|(position, _)| (*position, *row)).collect();
            return Verdict { repeats, same_body: row.hash == self.hash, note: false };
        }
        if let (Some(_), Some(row)) = (self.expires, known.first()) {
            let repeats = self.events.iter().map(|(position, _)| (*position, *row)).collect();
            return Verdict { repeats, same_body: false, note: false };
        }
        let mut repeats = Vec::new();
        for (position, line) in &self.events {
            if let Some(row) = known.iter().find(|row| (row.first..row.first + row.count).contains(line)) {
                repeats.push((*position, *row));
            }
        }
        let end = first + count;
        let whole = known.iter().any(|row| row.first <= first && row.first + row.count >= end);
        Verdict { repeats, same_body: true, note: !whole }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(first: u64, count: u64, hash: u8) -> DedupRow {
        DedupRow { first, count, log: LogId([0; 16]), position: 100 + first, hash: BodyHash([hash; 8]) }
    }

    fn lines(first: u64, count: u32, hash: u8) -> DedupEntry {
        let events = (first..first + u64::from(count)).map(|line| (1000 + line, line)).collect();
        let key = DedupKey::Lines { upload: [7; 16], first, count };
        DedupEntry {
            key,
            hash: BodyHash([hash; 8]),
            received: Millis(0),
            expires: Some(Millis(9)),
            events,
            conflict: Vec::new(),
        }
    }

    fn repeated(verdict: &Verdict) -> Vec<u64> {
        verdict.repeats.iter().map(|(position, _)| *position - 1000).collect()
    }

    #[test]
    fn new_lines_pass_and_are_stored() {
        let verdict = lines(0, 3, 1).verdict(&[]);
        assert!(verdict.repeats.is_empty() && verdict.note);
    }

    #[test]
    fn a_whole_repeat_is_skipped_and_another_body_is_a_conflict() {
        let same = lines(0, 3, 1).verdict(&[row(0, 3, 1)]);
        assert_eq!((repeated(&same), same.same_body, same.note), (vec![0, 1, 2], true, false));
        let other = lines(0, 3, 2).verdict(&[row(0, 3, 1)]);
        assert_eq!((repeated(&other), other.same_body, other.note), (vec![0, 1, 2], false, false));
    }

    #[test]
    fn only_the_new_lines_of_an_overlapping_kept_upload_pass() {
        let kept = |first, count| DedupEntry { expires: None, ..lines(first, count, 9) };
        let longer = kept(0, 6).verdict(&[row(0, 2, 1), row(4, 1, 2)]);
        assert_eq!((repeated(&longer), longer.same_body, longer.note), (vec![0, 1, 4], true, true));
        let inside = kept(2, 2).verdict(&[row(0, 6, 1)]);
        assert_eq!((repeated(&inside), inside.same_body, inside.note), (vec![2, 3], true, false));
    }

    #[test]
    fn a_key_used_for_a_body_of_another_length_is_a_conflict_in_all_its_events() {
        for (run, known) in [(lines(0, 6, 9), row(0, 2, 1)), (lines(0, 1, 9), row(0, 3, 1))] {
            let verdict = run.verdict(&[known]);
            let all: Vec<u64> = run.events.iter().map(|(_, line)| *line).collect();
            assert_eq!((repeated(&verdict), verdict.same_body, verdict.note), (all, false, false));
        }
    }
}

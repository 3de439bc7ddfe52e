//! Everything that one batch does to the store, as a value: made by pure code, applied by a database as
//! one transaction.

use std::ops::Range;
use std::sync::Arc;

use event::{BodyHash, EventId, LogId, Millis};

use super::numbered_rows::RowChanges;
use super::tables::{Cell, DerivedIndex, Table};

/// The compare-and-set that moves a view from one position to the next. It is what makes a batch count
/// once: exactly one row must change, or nothing of the plan happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub view: String,
    pub log: LogId,
    pub from: u64,
    pub to: u64,
}

/// Tells one plan from all others. A database on another machine keeps it beside the position: whoever lost
/// the answer to a commit tries the same plan again, and finds out that it was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(pub [u8; 16]);

impl Stamp {
    fn fresh() -> Self {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the system gives random bytes");
        Self(bytes)
    }
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub claim: Claim,
    pub stamp: Stamp,
    pub writes: Vec<Write>,
    /// For a view that keeps a row an event.
    pub rows: Option<RowChanges>,
    pub seen: Vec<DedupEntry>,
    pub dead_letters: Vec<DeadLetterChange>,
    pub corrected: Vec<CorrectedEvent>,
}

impl Plan {
    /// How much there is to write.
    pub fn cells(&self) -> usize {
        let written: usize = self.writes.iter().map(|write| write.cells.len()).sum();
        let rows = self.rows.as_ref().map_or(0, RowChanges::cells);
        written + rows + self.seen.len()
    }

    /// What its rows take in memory, texts included.
    pub fn bytes(&self) -> usize {
        let of_cell = |cell: &Cell| {
            size_of::<Cell>()
                + match cell {
                    Cell::Text(text) => text.len(),
                    Cell::Bytes(bytes) => bytes.len(),
                    _ => 0,
                }
        };
        self.writes.iter().flat_map(|write| &write.cells).map(of_cell).sum()
    }

    pub fn new(claim: Claim) -> Self {
        Self {
            claim,
            stamp: Stamp::fresh(),
            writes: Vec::new(),
            rows: None,
            seen: Vec::new(),
            dead_letters: Vec::new(),
            corrected: Vec::new(),
        }
    }
}

/// Rows for one table, laid end to end, and how they meet those that are there.
#[derive(Clone, Debug)]
pub struct Write {
    pub table: Arc<Table>,
    pub verb: Verb,
    pub cells: Vec<Cell>,
}

impl Write {
    /// The rows one by one.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, Cell> {
        self.cells.chunks_exact(self.width())
    }

    pub fn width(&self) -> usize {
        self.group_columns() + self.table.columns.len()
    }

    /// Where the key is in a row.
    pub fn key(&self) -> Range<usize> {
        let begin = self.group_columns();
        begin..begin + self.table.key_columns
    }

    /// Rows of `Verb::Visit` begin with what only the spans have a column for.
    fn group_columns(&self) -> usize {
        match (self.verb, &self.table.derived_index) {
            (Verb::Visit, DerivedIndex::DayGaps(spans)) => spans.group_columns(),
            _ => 0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Columns beyond the key are added to what is there.
    Add,
    /// The one number beyond the key is added to what is there, and a row that comes to 0 goes.
    Tally,
    /// The same for rows of a member and a day, and the table's spans follow. A row is the member's group,
    /// the member, the day and the number.
    Visit,
    /// A row that is there already, by its key, is left as it is.
    InsertNew,
    /// Rows that hold just this in these columns go.
    Remove,
}

/// The event at `position`, taken back by the correction at `by`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorrectedEvent {
    pub position: u64,
    pub by: u64,
}

/// One thing the gate asks about and notes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DedupEntry {
    pub key: DedupKey,
    pub hash: BodyHash,
    pub received: Millis,
    /// What was received before is forgotten, unless it is kept. It goes by the log's times, and not by
    /// what was deleted so far: a store caught up from the log again has to come to the same.
    pub since: Millis,
    /// Remembered for ever, not only for the gate's window.
    pub kept: bool,
    /// The events it stands for, with their lines where it is a run of lines.
    pub events: Vec<(u64, u64)>,
    /// What becomes of an event whose id was used for another body.
    pub conflict: Vec<NewDeadLetter>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DedupKey {
    Event(EventId),
    Lines { upload: [u8; 16], first: u64, count: u32 },
}

impl DedupKey {
    /// As stored: identity, first line, number of lines.
    pub fn parts(&self) -> ([u8; 16], u64, u64) {
        match self {
            Self::Event(id) => (*id.as_bytes(), 0, 1),
            Self::Lines { upload, first, count } => (*upload, *first, u64::from(*count)),
        }
    }
}

/// A position that views do not see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skipped {
    pub position: u64,
    pub first_log: LogId,
    pub first_position: u64,
    pub same_body: bool,
}

/// What was seen before under the same identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DedupRow {
    pub first: u64,
    pub count: u64,
    pub log: LogId,
    pub position: u64,
    pub hash: BodyHash,
}

/// What the gate's rule makes of one entry, given the rows that overlap it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The events that were there before, each with the row that had it.
    pub repeats: Vec<(u64, DedupRow)>,
    pub same_body: bool,
    /// Whether the entry is to be noted itself: something of it is new.
    pub note: bool,
}

impl DedupEntry {
    /// Same identity, same body: a repeat. Same identity, another body: a conflict.
    ///
    /// Lines of a source that is kept may come in other runs than before: those that were covered are
    /// repeats, the others are new. A body under a key is always cut the same way, so that a run which
    /// meets another one only in part is of another body, and all of it a conflict: taken line by line,
    /// what differs would be swallowed.
    pub fn verdict(&self, known: &[DedupRow]) -> Verdict {
        let (_, first, count) = self.key.parts();
        let exact = known.iter().find(|row| row.first == first && row.count == count);
        if let Some(row) = exact {
            let repeats = self.events.iter().map(|(position, _)| (*position, *row)).collect();
            return Verdict { repeats, same_body: row.hash == self.hash, note: false };
        }
        if let (false, Some(row)) = (self.kept, known.first()) {
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

/// What a plan does to dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeadLetterChange {
    New(NewDeadLetter),
    /// A retried letter went through.
    Applied {
        id: EventId,
        at: Millis,
    },
    /// A letter of `view`, sent again at `position`, failed again.
    Again {
        id: EventId,
        view: String,
        position: u64,
        reason: String,
        at: Millis,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDeadLetter {
    pub id: EventId,
    pub view: String,
    pub position: u64,
    pub event_id: EventId,
    pub stream: String,
    pub reason: String,
    pub event: String,
    pub at: Millis,
}

impl NewDeadLetter {
    /// One letter for a view and a place in a log, however often it is written.
    pub fn id(view: &str, log: LogId, position: u64) -> EventId {
        EventId::derived("dead-letter", view, &format!("{log}:{position}"))
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
            since: Millis(0),
            kept: false,
            events,
            conflict: Vec::new(),
        }
    }

    fn repeated(verdict: &Verdict) -> Vec<u64> {
        verdict.repeats.iter().map(|(position, _)| *position - 1000).collect()
    }

    #[test]
    fn what_is_new_passes_and_is_noted() {
        let verdict = lines(0, 3, 1).verdict(&[]);
        assert!(verdict.repeats.is_empty() && verdict.note);
    }

    #[test]
    fn a_repeat_is_skipped_whole_and_another_body_told_apart() {
        let same = lines(0, 3, 1).verdict(&[row(0, 3, 1)]);
        assert_eq!((repeated(&same), same.same_body, same.note), (vec![0, 1, 2], true, false));
        let other = lines(0, 3, 2).verdict(&[row(0, 3, 1)]);
        assert_eq!((repeated(&other), other.same_body, other.note), (vec![0, 1, 2], false, false));
    }

    #[test]
    fn of_lines_of_a_kept_source_that_overlap_only_the_new_ones_pass() {
        let kept = |first, count| DedupEntry { kept: true, ..lines(first, count, 9) };
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

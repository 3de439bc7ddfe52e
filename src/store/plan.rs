//! A plan: everything that one batch does to the store, as a value. Pure code builds it, and a database applies it as
//! one transaction.

use std::ops::Range;
use std::sync::Arc;

use event::{BodyHash, EventId, LogId, Millis};

use super::numbered_rows::RowChanges;
use super::tables::{Cell, DerivedIndex, Table};

/// The compare-and-set that moves a view's position from `from` to `to`. Exactly one row must change; otherwise
/// nothing of the plan is applied. So each batch counts exactly once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub view: String,
    pub log: LogId,
    pub from: u64,
    pub to: u64,
}

/// A random id of a plan. A database server stores it next to the view's position. If the result of a commit is lost,
/// the same plan is tried again, and the stamp shows whether it was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(pub [u8; 16]);

impl Stamp {
    fn fresh() -> Self {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the operating system provides random bytes");
        Self(bytes)
    }
}

/// Everything that one batch does to the store, applied as one transaction.
#[derive(Clone, Debug)]
pub struct Plan {
    pub claim: Claim,
    pub stamp: Stamp,
    pub writes: Vec<Write>,
    /// Set for a view whose table has one row per event.
    pub rows: Option<RowChanges>,
    pub seen: Vec<DedupEntry>,
    pub dead_letters: Vec<DeadLetterChange>,
    pub corrected: Vec<CorrectedEvent>,
}

impl Plan {
    /// Returns the amount of work, roughly the number of values to write.
    pub fn cells(&self) -> usize {
        let written: usize = self.writes.iter().map(|write| write.cells.len()).sum();
        let rows = self.rows.as_ref().map_or(0, RowChanges::cells);
        written + rows + self.seen.len()
    }

    /// Returns the memory that the cells of `writes` use, including texts.
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

/// Rows for one table, stored end to end, and the verb that combines them with existing rows.
#[derive(Clone, Debug)]
pub struct Write {
    pub table: Arc<Table>,
    pub verb: Verb,
    pub cells: Vec<Cell>,
}

impl Write {
    /// Returns the rows one by one.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, Cell> {
        self.cells.chunks_exact(self.width())
    }

    pub fn width(&self) -> usize {
        self.group_columns() + self.table.columns.len()
    }

    /// Returns the range of the key's cells in a row.
    pub fn key(&self) -> Range<usize> {
        let begin = self.group_columns();
        begin..begin + self.table.key_columns
    }

    /// Returns the number of leading group cells. Only rows of `Verb::Visit` have them: the day-gaps table has these
    /// columns, and the visited table does not.
    fn group_columns(&self) -> usize {
        match (self.verb, &self.table.derived_index) {
            (Verb::Visit, DerivedIndex::DayGaps(spans)) => spans.group_columns(),
            _ => 0,
        }
    }
}

/// How a row is combined with the existing row of the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Adds the columns after the key to the existing row.
    Add,
    /// Adds the single number after the key to the existing row. Deletes the row if the sum is 0.
    Tally,
    /// Does the same as `Tally` for rows of a member and a day, and updates the day-gaps table. A row consists of the
    /// member's group, the member, the day and the number.
    Visit,
    /// Inserts rows whose key is new. Existing rows stay unchanged.
    InsertNew,
    /// Deletes rows that have exactly these values in these columns.
    Remove,
}

/// The event at `position` is undone by the correction at `by`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorrectedEvent {
    pub position: u64,
    pub by: u64,
}

/// One identity that dedup looks up and stores: a client's event id, or a run of lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DedupEntry {
    pub key: DedupKey,
    pub hash: BodyHash,
    pub received: Millis,
    /// Stored rows that were received before this time do not count, unless they are kept. This time comes from the
    /// log, so the result does not depend on which old rows are already deleted. A store that is rebuilt from the
    /// log gets the same result.
    pub since: Millis,
    /// True if the row is kept without a time limit, and not only for dedup's window.
    pub kept: bool,
    /// The positions of the events. For a run of lines, each with its line number.
    pub events: Vec<(u64, u64)>,
    /// The dead letters to write if the identity was used before for another body.
    pub conflict: Vec<NewDeadLetter>,
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

/// A change that a plan makes to a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeadLetterChange {
    New(NewDeadLetter),
    /// A dead letter that was sent again has been applied.
    Applied {
        id: EventId,
        at: Millis,
    },
    /// A dead letter of `view`, sent again at `position`, has failed again.
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
    /// Returns the id of the dead letter for a view and a position in a log. The id is always the same, so writing
    /// the dead letter again does not create a second one.
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

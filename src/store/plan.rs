//! A plan: everything that one batch does to the store, as a value. Pure code builds it, and a database applies it as
//! one transaction.

use std::ops::Range;
use std::sync::Arc;

use event::LogId;

use super::dead_letter_change::DeadLetterChange;
use super::dedup_rule::{ClockJumps, DedupEntry};
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
    /// For the decision which stored ids still count.
    pub clock_jumps: ClockJumps,
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
            clock_jumps: ClockJumps::default(),
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

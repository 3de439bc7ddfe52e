//! A plan: everything that one batch does to the store, as a value. Pure code builds it, and a database applies it as
//! one transaction.

use std::sync::Arc;

use event::LogId;

use super::cell::Cell;
use super::dead_letter_change::DeadLetterChange;
use super::dedup_rule::{ClockJumps, DedupEntry};
use super::definitions::{DefinitionChange, DefinitionHash};
use super::delivery::{NotificationChange, NotificationChanges, QueuedNotification};
use super::numbered_rows::RowChanges;
use super::tables::Table;
use super::visits::{Visit, Visits};

/// The values to write for a visit: the member, the day and the number, and as many for the day gaps that it changes.
const VISIT_CELLS: usize = 6;
/// The values to write for a delivery and its content.
const DELIVERY_CELLS: usize = 20;

/// The compare-and-set that moves a view's position from `from` to `to`. Exactly one row must change; otherwise
/// nothing of the plan is applied. So each batch counts exactly once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub view: String,
    pub log: LogId,
    pub from: u64,
    pub to: u64,
    /// The definition that has to be in force. Dedup and the shadow of a rebuild have none.
    pub definition: Option<DefinitionHash>,
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
    /// Set for a view that counts distinct members.
    pub visits: Option<Visits>,
    /// Set for a view whose table has one row per event.
    pub rows: Option<RowChanges>,
    /// Set for a view of notifications.
    pub notifications: Option<NotificationChanges>,
    pub seen: Vec<DedupEntry>,
    /// For the decision which stored ids still count.
    pub clock_jumps: ClockJumps,
    pub dead_letters: Vec<DeadLetterChange>,
    pub corrected: Vec<CorrectedEvent>,
    pub definition: Option<DefinitionChange>,
}

impl Plan {
    /// Returns the amount of work, roughly the number of values to write.
    pub fn cells(&self) -> usize {
        let written: usize = self.writes.iter().map(|write| write.cells.len()).sum();
        let visits = self.visits.as_ref().map_or(0, |visits| visits.changes().len() * VISIT_CELLS);
        let rows = self.rows.as_ref().map_or(0, RowChanges::cells);
        let queued: usize =
            self.queued().map(|one| one.row.len() + one.deliveries.len() * DELIVERY_CELLS).sum();
        written + visits + rows + queued + self.seen.len()
    }

    /// Returns the memory that writes and visits use, including texts. A group that several visits share counts for
    /// each of them.
    pub fn bytes(&self) -> usize {
        let of_cell = |cell: &Cell| {
            size_of::<Cell>()
                + match cell {
                    Cell::Text(text) => text.len(),
                    Cell::Bytes(bytes) => bytes.len(),
                    _ => 0,
                }
        };
        let visits = self.visits.iter().flat_map(Visits::changes);
        let of_visit = |visit: &Visit| size_of::<Visit>() + visit.group.iter().map(of_cell).sum::<usize>();
        let written: usize = self.writes.iter().flat_map(|write| &write.cells).map(of_cell).sum();
        let queued = self.queued().map(|one| {
            let contents: usize = one.deliveries.iter().map(|delivery| delivery.content.len()).sum();
            one.row.iter().map(of_cell).sum::<usize>() + contents
        });
        written + visits.map(of_visit).sum::<usize>() + queued.sum::<usize>()
    }

    /// Returns the notifications that the plan queues.
    pub fn queued(&self) -> impl Iterator<Item = &QueuedNotification> {
        let changes = self.notifications.iter().flat_map(|notifications| &notifications.changes);
        changes.filter_map(|change| match change {
            NotificationChange::Queue(notification) => Some(notification),
            NotificationChange::Cancel { .. } => None,
        })
    }

    pub fn new(claim: Claim) -> Self {
        Self {
            claim,
            stamp: Stamp::fresh(),
            writes: Vec::new(),
            visits: None,
            rows: None,
            notifications: None,
            seen: Vec::new(),
            clock_jumps: ClockJumps::default(),
            dead_letters: Vec::new(),
            corrected: Vec::new(),
            definition: None,
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
        self.cells.chunks_exact(self.table.columns.len())
    }
}

/// How a row is combined with the existing row of the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Adds the columns after the key to the existing row.
    Add,
    /// Adds the single number after the key to the existing row. Deletes the row if the sum is 0.
    Tally,
}

/// The event at `position` is undone by the correction at `by`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorrectedEvent {
    pub position: u64,
    pub by: u64,
}

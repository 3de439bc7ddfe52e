//! Tables with one row per event and no key: the rows that a plan adds, restores and removes.

use std::sync::Arc;

use event::{LogId, Millis};

use super::cell::{AnyCell, CellRef};
use super::tables::Table;

/// The changes of a plan to such a table. Rows are added, then restored, then removed: the batch that adds an event's
/// row may also contain its correction.
#[derive(Clone, Debug)]
pub struct RowChanges {
    pub table: Arc<Table>,
    pub added: Rows,
    /// Position and received time of the event of each added row, in the order of positions.
    pub from: Vec<(u64, Millis)>,
    /// Rows to write again under the numbers that they already have.
    pub restored: Rows,
    /// The number of each restored row.
    pub numbers: Vec<i64>,
    /// Positions of events whose rows are deleted.
    pub removed: Vec<u64>,
}

impl RowChanges {
    pub fn new(table: &Arc<Table>) -> Self {
        let width = table.columns.len();
        Self {
            table: Arc::clone(table),
            added: Rows::new(width),
            from: Vec::new(),
            restored: Rows::new(width),
            numbers: Vec::new(),
            removed: Vec::new(),
        }
    }

    /// Returns the number of values to write, with one for each removed event.
    pub fn cells(&self) -> usize {
        self.added.slots.len() + self.restored.slots.len() + self.removed.len()
    }

    pub fn is_empty(&self) -> bool {
        self.from.is_empty() && self.numbers.is_empty() && self.removed.is_empty()
    }
}

/// Rows stored end to end, with all their texts in one string. A batch needs only a few allocations, independent of
/// the number of rows.
#[derive(Clone, Debug)]
pub struct Rows {
    width: usize,
    slots: Vec<Slot>,
    text: String,
    bytes: Vec<u8>,
}

/// A value whose text or bytes end at an index, and begin where those of an earlier slot end.
type Slot = AnyCell<u32, u32>;

impl Rows {
    pub fn new(width: usize) -> Self {
        Self { width, slots: Vec::new(), text: String::new(), bytes: Vec::new() }
    }

    /// Reserves memory for `rows` rows and `bytes` bytes of text.
    pub fn reserve(&mut self, rows: usize, bytes: usize) {
        self.slots.reserve(rows * self.width);
        self.text.reserve(bytes);
    }

    /// Appends one value. A row is complete after as many values as the table has columns.
    pub fn push<'a>(&mut self, cell: impl Into<CellRef<'a>>) {
        let end = |length: usize| u32::try_from(length).expect("a batch is far below 4 GiB");
        let slot = cell.into().map(
            |text| {
                self.text.push_str(text);
                end(self.text.len())
            },
            |bytes| {
                self.bytes.extend_from_slice(bytes);
                end(self.bytes.len())
            },
        );
        self.slots.push(slot);
    }

    pub fn len(&self) -> usize {
        self.slots.len() / self.width.max(1)
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Returns all values, row by row.
    pub fn cells(&self) -> impl Iterator<Item = CellRef<'_>> {
        let (mut text_begin, mut bytes_begin) = (0, 0);
        let range = |begin: &mut usize, end: u32| std::mem::replace(begin, end as usize)..end as usize;
        self.slots.iter().map(move |slot| {
            slot.map(
                |end| &self.text[range(&mut text_begin, end)],
                |end| &self.bytes[range(&mut bytes_begin, end)],
            )
        })
    }
}

/// The rows that a view wrote from one log.
#[derive(Clone, Debug)]
pub struct RowsOf {
    pub view: String,
    pub log: LogId,
    pub table: Arc<Table>,
}

/// Selects the rows to delete.
#[derive(Clone, Debug)]
pub enum RowsToDelete {
    /// Rows of the events at these positions.
    Positions(Vec<u64>),
    /// Rows of events below `position`, at most `rows_max` of them.
    Below { position: u64, rows_max: usize },
}

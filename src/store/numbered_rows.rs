//! Rows of tables that have a row an event and no key: how a plan adds them, puts them right and takes
//! them away again, and how they are found by where they came from.

use std::sync::Arc;

use event::{Decimal, LogId, Millis, Value};

use super::row_origins::{self, RowOrigin, RowOriginBase};
use super::tables::{Cell, Table};
use super::{Store, StoreError, corrupt_row};

/// What a plan does to such a table: rows are added, put right under their numbers, taken away; in this
/// order, because an event may be taken back in the batch that brings it.
#[derive(Clone, Debug)]
pub struct RowChanges {
    pub table: Arc<Table>,
    pub added: Rows,
    /// The event of each that is added, in the order of positions.
    pub from: Vec<(u64, Millis)>,
    pub restored: Rows,
    /// The number of each that is put right.
    pub numbers: Vec<i64>,
    /// Events that no row is to be of any more.
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

    pub fn cells(&self) -> usize {
        self.added.slots.len() + self.restored.slots.len() + self.removed.len()
    }

    pub fn is_empty(&self) -> bool {
        self.from.is_empty() && self.numbers.is_empty() && self.removed.is_empty()
    }
}

/// Rows end to end, all their texts in one: a batch of them is a few allocations, however many they are.
#[derive(Clone, Debug)]
pub struct Rows {
    width: usize,
    slots: Vec<Slot>,
    text: String,
}

#[derive(Clone, Copy, Debug)]
enum Slot {
    Null,
    Text { end: u32 },
    Json { end: u32 },
    Integer(i64),
    Decimal(Decimal),
    Time(Millis),
    Boolean(bool),
}

impl Rows {
    pub fn new(width: usize) -> Self {
        Self { width, slots: Vec::new(), text: String::new() }
    }

    /// Room for so many rows, and so many bytes of text.
    pub fn reserve(&mut self, rows: usize, bytes: usize) {
        self.slots.reserve(rows * self.width);
        self.text.reserve(bytes);
    }

    pub fn push(&mut self, value: &Value<'_>) {
        let slot = match value {
            Value::Absent => Slot::Null,
            Value::Text(text) => Slot::Text { end: self.append(text) },
            Value::Any(text) => Slot::Json { end: self.append(text) },
            Value::Integer(value) => Slot::Integer(*value),
            Value::Decimal(value) => Slot::Decimal(*value),
            Value::Time(value) => Slot::Time(*value),
            Value::Boolean(value) => Slot::Boolean(*value),
        };
        self.slots.push(slot);
    }

    fn append(&mut self, text: &str) -> u32 {
        self.text.push_str(text);
        u32::try_from(self.text.len()).expect("a batch is far below 4 GiB")
    }

    pub fn len(&self) -> usize {
        self.slots.len() / self.width.max(1)
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// All values, row by row.
    pub fn values(&self) -> impl Iterator<Item = Value<'_>> {
        let mut begin = 0;
        let mut text = move |end: u32| {
            let text = &self.text[begin..end as usize];
            begin = end as usize;
            text
        };
        self.slots.iter().map(move |slot| match *slot {
            Slot::Null => Value::Absent,
            Slot::Text { end } => Value::Text(text(end).into()),
            Slot::Json { end } => Value::Any(text(end)),
            Slot::Integer(value) => Value::Integer(value),
            Slot::Decimal(value) => Value::Decimal(value),
            Slot::Time(value) => Value::Time(value),
            Slot::Boolean(value) => Value::Boolean(value),
        })
    }
}

/// The rows that a view made of one log.
#[derive(Clone, Debug)]
pub struct RowsOf {
    pub view: String,
    pub log: LogId,
    pub table: Arc<Table>,
}

/// Which of them are to go.
#[derive(Clone, Debug)]
pub enum RowsToDelete {
    /// Those of these events.
    Positions(Vec<u64>),
    /// Those of events below a position, no more than so many of them together.
    Below { position: u64, rows_max: usize },
}

impl Store {
    /// Deletes the rows of these events, and forgets where they came from; how many there were.
    pub async fn delete_rows(&self, of: RowsOf, positions: Vec<u64>) -> Result<usize, StoreError> {
        self.doom(of, RowsToDelete::Positions(positions)).await
    }

    /// Deletes rows of events below `position`, up to `rows_max` of them, and returns how many there were. None is
    /// left once that is 0.
    pub async fn delete_rows_below(
        &self,
        of: RowsOf,
        position: u64,
        rows_max: usize,
    ) -> Result<usize, StoreError> {
        self.doom(of, RowsToDelete::Below { position, rows_max }).await
    }

    async fn doom(&self, of: RowsOf, to_delete: RowsToDelete) -> Result<usize, StoreError> {
        match self {
            Self::Sqlite(store) => store.delete_rows(of, to_delete).await,
            Self::Remote(store) => store.delete_rows(of, to_delete).await,
        }
    }

    /// Where the rows are that `view` made of `from..to`, in the order of positions.
    pub async fn row_places(
        &self,
        view: &str,
        log: LogId,
        from: u64,
        to: u64,
    ) -> Result<Vec<RowOrigin>, StoreError> {
        // Entries do not overlap: the last one that begins at or before `from` is the first that matters.
        let sql = "SELECT first_position, first_row, received_min, places FROM millrace_rows
                   WHERE view = ? AND log_id = ? AND part = 0 AND first_position < ? AND first_position >= coalesce(
                   (SELECT max(first_position) FROM millrace_rows WHERE view = ? AND log_id = ? AND part = 0 AND first_position <= ?), 0)
                   ORDER BY first_position";
        let view = Cell::Text(view.to_owned());
        let log = Cell::Bytes(log.0.to_vec());
        let parameters =
            vec![view.clone(), log.clone(), Cell::Integer(to as i64), view, log, Cell::Integer(from as i64)];
        let mut found = Vec::new();
        for row in self.rows(sql.to_owned(), parameters).await? {
            let places = entry(row).ok_or_else(|| corrupt_row("millrace_rows"))?;
            found.extend(places.into_iter().filter(|place| (from..to).contains(&place.position)));
        }
        Ok(found)
    }

    /// A value as this store holds it.
    pub fn stored_value(&self, value: &Value<'_>) -> Cell {
        match self {
            Self::Sqlite(_) => super::sqlite::stored_value(value),
            Self::Remote(_) => super::remote::stored_value(value),
        }
    }

    /// Events of `log` within `from..to` that were taken back, each with the correction that did it.
    pub async fn corrected(&self, log: LogId, from: u64, to: u64) -> Result<Vec<(u64, u64)>, StoreError> {
        let sql = "SELECT position, by_position FROM millrace_taken_back WHERE log_id = ? AND part = 0 AND position >= ? AND position < ? ORDER BY position";
        let parameters =
            vec![Cell::Bytes(log.0.to_vec()), Cell::Integer(from as i64), Cell::Integer(to as i64)];
        let pair = |row: Vec<Cell>| match row.as_slice() {
            [Cell::Integer(position), Cell::Integer(by)] => Ok((*position as u64, *by as u64)),
            _ => Err(corrupt_row("millrace_taken_back")),
        };
        self.rows(sql.to_owned(), parameters).await?.into_iter().map(pair).collect()
    }
}

fn entry(row: Vec<Cell>) -> Option<Vec<RowOrigin>> {
    match <[Cell; 4]>::try_from(row) {
        Ok([Cell::Integer(first), Cell::Integer(row), Cell::Integer(received), Cell::Bytes(bytes)]) => {
            let base = RowOriginBase {
                first_position: first as u64,
                first_row: row,
                received_min: Millis(received),
            };
            row_origins::decode(base, &bytes)
        }
        _ => None,
    }
}

//! Tables with one row per event and no key: how a plan adds, restores and removes rows, and how rows are found by
//! the event that they came from.

use std::sync::Arc;

use event::{Decimal, LogId, Millis, Value};

use super::row_origins::{self, RowOrigin, RowOriginBase};
use super::tables::{Cell, Table};
use super::{Store, StoreError, corrupt_row};

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

    /// Reserves memory for `rows` rows and `bytes` bytes of text.
    pub fn reserve(&mut self, rows: usize, bytes: usize) {
        self.slots.reserve(rows * self.width);
        self.text.reserve(bytes);
    }

    /// Appends one value. A row is complete after as many values as the table has columns.
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

    /// Returns all values, row by row.
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

impl Store {
    /// Deletes the rows of the events at `positions`, with their stored origins. Returns the number of rows.
    pub async fn delete_rows(&self, of: RowsOf, positions: Vec<u64>) -> Result<usize, StoreError> {
        self.delete_matching(of, RowsToDelete::Positions(positions)).await
    }

    /// Deletes up to `rows_max` rows of events below `position`. Returns the number of deleted rows; 0 means that no
    /// row was left.
    pub async fn delete_rows_below(
        &self,
        of: RowsOf,
        position: u64,
        rows_max: usize,
    ) -> Result<usize, StoreError> {
        self.delete_matching(of, RowsToDelete::Below { position, rows_max }).await
    }

    async fn delete_matching(&self, of: RowsOf, to_delete: RowsToDelete) -> Result<usize, StoreError> {
        match self {
            Self::Sqlite(store) => store.delete_rows(of, to_delete).await,
            Self::Remote(store) => store.delete_rows(of, to_delete).await,
        }
    }

    /// Returns the origins of the rows that `view` wrote for events at `from..to`, in the order of positions.
    pub async fn row_origins(
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
            let origins = parse_entry(row).ok_or_else(|| corrupt_row("millrace_rows"))?;
            found.extend(origins.into_iter().filter(|origin| (from..to).contains(&origin.position)));
        }
        Ok(found)
    }

    /// Returns a value in the form in which this database stores it.
    pub fn stored_value(&self, value: &Value<'_>) -> Cell {
        match self {
            Self::Sqlite(_) => super::sqlite::stored_value(value),
            Self::Remote(_) => super::remote::stored_value(value),
        }
    }

    /// Returns the positions of corrected events of `log` within `from..to`, each with its correction's position.
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

fn parse_entry(row: Vec<Cell>) -> Option<Vec<RowOrigin>> {
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

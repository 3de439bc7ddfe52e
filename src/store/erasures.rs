//! Stored erasures: the work that is still to do for each, and the record that it was done. After that, nothing about
//! the person remains except a hash of the value that was searched for.

use event::limits::LIST_ROWS_MAX;
use event::{EventId, LogId, Millis, positions};

use super::stored_row::FromRow;
use super::{Cell, Store, StoreError};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasure {
    pub id: EventId,
    pub stream: String,
    pub field: String,
    /// A keyed hash of the value. The node that has the key finds the record of a value by it.
    pub value_hash: String,
    /// The name of the key that requested the erasure.
    pub asked_by: String,
    pub log: LogId,
    pub events: u64,
    pub asked: Millis,
    pub done: Option<Millis>,
}

/// An erasure that is not done yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenErasure {
    pub erasure: Erasure,
    /// The value itself, stored while views may still have to remove it.
    pub value: String,
    /// Positions whose events have to be blanked in the log.
    pub positions: Vec<u64>,
    /// The positions among these that views may have applied.
    pub undone: Vec<u64>,
}

const TABLE: &str = "millrace_erasures";
const COLUMNS: &str = "id, stream, field, value_hash, asked_by, log_id, events, asked, done";

impl Store {
    pub async fn note_erasure(&self, open: &OpenErasure) -> Result<(), StoreError> {
        let OpenErasure { erasure, value, positions: blanked, undone } = open;
        let sql = "INSERT INTO millrace_erasures (id, stream, field, value_hash, asked_by, log_id, part, events, asked, done, value, positions, undone) \
                   VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?, NULL, ?, ?, ?)";
        let parameters = vec![
            erasure.id.into(),
            erasure.stream.as_str().into(),
            erasure.field.as_str().into(),
            erasure.value_hash.as_str().into(),
            erasure.asked_by.as_str().into(),
            erasure.log.into(),
            erasure.events.into(),
            erasure.asked.into(),
            value.as_str().into(),
            Cell::Bytes(positions::encode(blanked)),
            Cell::Bytes(positions::encode(undone)),
        ];
        self.change(sql.to_owned(), parameters).await.map(drop)
    }

    /// Deletes the value and the positions of an erasure. Only the scrub of the store's own files is left to do.
    pub async fn forget_erased(&self, id: EventId) -> Result<(), StoreError> {
        let sql = "UPDATE millrace_erasures SET value = '', positions = ?, undone = ? WHERE id = ?";
        let nothing = || Cell::Bytes(Vec::new());
        self.change(sql.to_owned(), vec![nothing(), nothing(), id.into()]).await.map(drop)
    }

    /// Marks an erasure as done. Only its record remains.
    pub async fn erasure_done(&self, id: EventId, at: Millis) -> Result<(), StoreError> {
        let sql = "UPDATE millrace_erasures SET done = ? WHERE id = ?";
        self.change(sql.to_owned(), vec![at.into(), id.into()]).await.map(drop)
    }

    /// Returns the erasures, latest first. With `value_hash`, returns only those of one value.
    pub async fn erasures(&self, value_hash: Option<String>) -> Result<Vec<Erasure>, StoreError> {
        let only = if value_hash.is_some() { "WHERE value_hash = ?" } else { "" };
        let sql = format!(
            "SELECT {COLUMNS} FROM millrace_erasures {only} ORDER BY asked DESC, id LIMIT {LIST_ROWS_MAX}"
        );
        self.read(TABLE, &sql, value_hash.into_iter().map(Cell::Text).collect()).await
    }

    /// Returns the ids and hashes of erasures whose hash does not begin with `form`.
    pub async fn erasures_hashed_otherwise(&self, form: &str) -> Result<Vec<(EventId, String)>, StoreError> {
        let sql = "SELECT id, value_hash FROM millrace_erasures WHERE value_hash NOT LIKE ?";
        self.read(TABLE, sql, vec![Cell::Text(format!("{form}%"))]).await
    }

    pub async fn rehash_erasure(&self, id: EventId, value_hash: &str) -> Result<(), StoreError> {
        let sql = "UPDATE millrace_erasures SET value_hash = ? WHERE id = ?";
        self.change(sql.to_owned(), vec![value_hash.into(), id.into()]).await.map(drop)
    }

    pub async fn erasure(&self, id: EventId) -> Result<Option<Erasure>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM millrace_erasures WHERE id = ?");
        self.read_first(TABLE, &sql, vec![id.into()]).await
    }

    /// Returns whether an erasure of `log` is not done.
    pub async fn has_open_erasure(&self, log: LogId) -> Result<bool, StoreError> {
        let sql = "SELECT id FROM millrace_erasures WHERE done IS NULL AND log_id = ? LIMIT 1";
        Ok(!self.rows(sql.to_owned(), vec![log.into()]).await?.is_empty())
    }

    /// Returns the earliest requested erasure of `log` that is not done. Its positions may take many megabytes.
    pub async fn open_erasure(&self, log: LogId) -> Result<Option<OpenErasure>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS}, value, positions, undone FROM millrace_erasures WHERE done IS NULL AND log_id = ? ORDER BY asked, id LIMIT 1"
        );
        self.read_first(TABLE, &sql, vec![log.into()]).await
    }
}

impl FromRow for OpenErasure {
    fn from_row(mut row: Vec<Cell>) -> Option<Self> {
        if row.len() < 3 {
            return None;
        }
        let (value, blanked, undone): (_, Vec<u8>, Vec<u8>) =
            FromRow::from_row(row.split_off(row.len() - 3))?;
        let (positions, undone) = (positions::decode(&blanked)?, positions::decode(&undone)?);
        Some(Self { erasure: FromRow::from_row(row)?, value, positions, undone })
    }
}

impl FromRow for Erasure {
    fn from_row(row: Vec<Cell>) -> Option<Self> {
        let (id, stream, field, value_hash, asked_by, log, events, asked, done) = FromRow::from_row(row)?;
        Some(Self { id, stream, field, value_hash, asked_by, log, events, asked, done })
    }
}

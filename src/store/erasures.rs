//! Stored erasures: the work that is still to do for each, and the record that it was done. After that, nothing about
//! the person remains except a hash of the value that was searched for.

use event::limits::LIST_ROWS_MAX;
use event::{EventId, LogId, Millis, positions};

use super::{Cell, Store, StoreError, corrupt_row};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasure {
    pub id: EventId,
    pub stream: String,
    pub field: String,
    /// SHA-256 of the value, in hex. A person who knows the value can find the record.
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

const COLUMNS: &str = "id, stream, field, value_hash, asked_by, log_id, events, asked, done";

impl Store {
    pub async fn note_erasure(&self, open: &OpenErasure) -> Result<(), StoreError> {
        let OpenErasure { erasure, value, positions: blanked, undone } = open;
        let sql = "INSERT INTO millrace_erasures (id, stream, field, value_hash, asked_by, log_id, part, events, asked, done, value, positions, undone) \
                   VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?, NULL, ?, ?, ?)";
        let parameters = vec![
            Cell::Text(erasure.id.to_string()),
            Cell::Text(erasure.stream.clone()),
            Cell::Text(erasure.field.clone()),
            Cell::Text(erasure.value_hash.clone()),
            Cell::Text(erasure.asked_by.clone()),
            Cell::Bytes(erasure.log.0.to_vec()),
            Cell::Integer(erasure.events as i64),
            Cell::Integer(erasure.asked.0),
            Cell::Text(value.clone()),
            Cell::Bytes(positions::encode(blanked)),
            Cell::Bytes(positions::encode(undone)),
        ];
        self.change(sql.to_owned(), parameters).await.map(drop)
    }

    /// Deletes the value and the positions of an erasure. Only the scrub of the store's own files is left to do.
    pub async fn forget_erased(&self, id: EventId) -> Result<(), StoreError> {
        let sql = "UPDATE millrace_erasures SET value = '', positions = ?, undone = ? WHERE id = ?";
        let nothing = || Cell::Bytes(Vec::new());
        self.change(sql.to_owned(), vec![nothing(), nothing(), Cell::Text(id.to_string())]).await.map(drop)
    }

    /// Marks an erasure as done. Only its record remains.
    pub async fn erasure_done(&self, id: EventId, at: Millis) -> Result<(), StoreError> {
        let sql = "UPDATE millrace_erasures SET done = ? WHERE id = ?";
        self.change(sql.to_owned(), vec![Cell::Integer(at.0), Cell::Text(id.to_string())]).await.map(drop)
    }

    /// Returns the erasures, latest first.
    pub async fn erasures(&self) -> Result<Vec<Erasure>, StoreError> {
        let sql =
            format!("SELECT {COLUMNS} FROM millrace_erasures ORDER BY asked DESC, id LIMIT {LIST_ROWS_MAX}");
        let rows = self.rows(sql, Vec::new()).await?;
        rows.into_iter().map(|row| parse_erasure(&row).ok_or_else(corrupt_erasure)).collect()
    }

    pub async fn erasure(&self, id: EventId) -> Result<Option<Erasure>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM millrace_erasures WHERE id = ?");
        let rows = self.rows(sql, vec![Cell::Text(id.to_string())]).await?;
        rows.first().map(|row| parse_erasure(row).ok_or_else(corrupt_erasure)).transpose()
    }

    /// Returns whether an erasure of `log` is not done.
    pub async fn has_open_erasure(&self, log: LogId) -> Result<bool, StoreError> {
        let sql = "SELECT id FROM millrace_erasures WHERE done IS NULL AND log_id = ? LIMIT 1";
        Ok(!self.rows(sql.to_owned(), vec![Cell::Bytes(log.0.to_vec())]).await?.is_empty())
    }

    /// Returns the earliest requested erasure of `log` that is not done. Its positions may take many megabytes.
    pub async fn open_erasure(&self, log: LogId) -> Result<Option<OpenErasure>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS}, value, positions, undone FROM millrace_erasures WHERE done IS NULL AND log_id = ? ORDER BY asked, id LIMIT 1"
        );
        let rows = self.rows(sql, vec![Cell::Bytes(log.0.to_vec())]).await?;
        rows.first().map(|row| parse_open_erasure(row).ok_or_else(corrupt_erasure)).transpose()
    }
}

fn corrupt_erasure() -> StoreError {
    corrupt_row("millrace_erasures")
}

fn parse_open_erasure(row: &[Cell]) -> Option<OpenErasure> {
    match row.get(9..)? {
        [Cell::Text(value), Cell::Bytes(blanked), Cell::Bytes(undone)] => Some(OpenErasure {
            erasure: parse_erasure(row)?,
            value: value.clone(),
            positions: positions::decode(blanked)?,
            undone: positions::decode(undone)?,
        }),
        _ => None,
    }
}

fn parse_erasure(row: &[Cell]) -> Option<Erasure> {
    match row.get(..9)? {
        [
            Cell::Text(id),
            Cell::Text(stream),
            Cell::Text(field),
            Cell::Text(value_hash),
            Cell::Text(asked_by),
            Cell::Bytes(log),
            Cell::Integer(events),
            Cell::Integer(asked),
            done,
        ] => Some(Erasure {
            id: id.parse().ok()?,
            stream: stream.clone(),
            field: field.clone(),
            value_hash: value_hash.clone(),
            asked_by: asked_by.clone(),
            log: LogId(log.clone().try_into().ok()?),
            events: *events as u64,
            asked: Millis(*asked),
            done: match done {
                Cell::Null => None,
                Cell::Integer(done) => Some(Millis(*done)),
                _ => return None,
            },
        }),
        _ => None,
    }
}

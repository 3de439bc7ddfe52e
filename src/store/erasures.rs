//! Erasures as they are stored: what is still to be done of each, and the record that it was done. Of the
//! person nothing stays but a hash of the value that was asked for.

use event::limits::LIST_ROWS_MAX;
use event::{EventId, LogId, Millis, positions};

use super::{Cell, Store, StoreError, corrupt_row};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasure {
    pub id: EventId,
    pub stream: String,
    pub field: String,
    /// SHA-256 of the value, in hex: whoever knows the value can find the record.
    pub value_hash: String,
    /// The name of the key that asked.
    pub asked_by: String,
    pub log: LogId,
    pub events: u64,
    pub asked: Millis,
    pub done: Option<Millis>,
}

/// What there is still to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    pub erasure: Erasure,
    /// The value itself, for as long as views may still have to forget it.
    pub value: String,
    /// To be blanked in the log.
    pub positions: Vec<u64>,
    /// Those of them that views may have applied.
    pub undone: Vec<u64>,
}

const COLUMNS: &str = "id, stream, field, value_hash, asked_by, log_id, events, asked, done";

impl Store {
    pub async fn note_erasure(&self, open: &Open) -> Result<(), StoreError> {
        let Open { erasure, value, positions: blanked, undone } = open;
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

    /// Forgets whose erasure it was: nothing is left to do but to scrub the store's own files.
    pub async fn forget_erased(&self, id: EventId) -> Result<(), StoreError> {
        let sql = "UPDATE millrace_erasures SET value = '', positions = ?, undone = ? WHERE id = ?";
        let nothing = || Cell::Bytes(Vec::new());
        self.change(sql.to_owned(), vec![nothing(), nothing(), Cell::Text(id.to_string())]).await.map(drop)
    }

    /// From now on there is only the record.
    pub async fn erasure_done(&self, id: EventId, at: Millis) -> Result<(), StoreError> {
        let sql = "UPDATE millrace_erasures SET done = ? WHERE id = ?";
        self.change(sql.to_owned(), vec![Cell::Integer(at.0), Cell::Text(id.to_string())]).await.map(drop)
    }

    /// The latest first.
    pub async fn erasures(&self) -> Result<Vec<Erasure>, StoreError> {
        let sql =
            format!("SELECT {COLUMNS} FROM millrace_erasures ORDER BY asked DESC, id LIMIT {LIST_ROWS_MAX}");
        let rows = self.rows(sql, Vec::new()).await?;
        rows.into_iter().map(|row| erasure(&row).ok_or_else(unreadable)).collect()
    }

    pub async fn erasure(&self, id: EventId) -> Result<Option<Erasure>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM millrace_erasures WHERE id = ?");
        let rows = self.rows(sql, vec![Cell::Text(id.to_string())]).await?;
        rows.first().map(|row| erasure(row).ok_or_else(unreadable)).transpose()
    }

    /// Whether any of `log` is not done.
    pub async fn erases(&self, log: LogId) -> Result<bool, StoreError> {
        let sql = "SELECT id FROM millrace_erasures WHERE done IS NULL AND log_id = ? LIMIT 1";
        Ok(!self.rows(sql.to_owned(), vec![Cell::Bytes(log.0.to_vec())]).await?.is_empty())
    }

    /// The first asked for of those of `log` that are not done. Its positions may be many megabytes.
    pub async fn open_erasure(&self, log: LogId) -> Result<Option<Open>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS}, value, positions, undone FROM millrace_erasures WHERE done IS NULL AND log_id = ? ORDER BY asked, id LIMIT 1"
        );
        let rows = self.rows(sql, vec![Cell::Bytes(log.0.to_vec())]).await?;
        rows.first().map(|row| open(row).ok_or_else(unreadable)).transpose()
    }
}

fn unreadable() -> StoreError {
    corrupt_row("millrace_erasures")
}

fn open(row: &[Cell]) -> Option<Open> {
    match row.get(9..)? {
        [Cell::Text(value), Cell::Bytes(blanked), Cell::Bytes(undone)] => Some(Open {
            erasure: erasure(row)?,
            value: value.clone(),
            positions: positions::decode(blanked)?,
            undone: positions::decode(undone)?,
        }),
        _ => None,
    }
}

fn erasure(row: &[Cell]) -> Option<Erasure> {
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

//! Queries on stored dead letters, and the status changes that a person asks for. Plans write the rows themselves,
//! in the same transaction that moves the view past the event.

use event::limits::{DEAD_LETTERS_LOOKED_UP_MAX, LIST_ROWS_MAX};
use event::{EventId, LogId, Millis};

use super::{Cell, Store, StoreError};

/// An event that could not be handled, kept with its reason until a person decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub id: EventId,
    pub view: String,
    pub log: LogId,
    pub position: u64,
    pub event_id: EventId,
    pub stream: String,
    pub reason: String,
    pub event: String,
    pub status: DeadLetterStatus,
    pub attempts: i64,
    pub created: Millis,
    pub updated: Millis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadLetterStatus {
    Open,
    /// Sent again, but its view has not reached it yet.
    Retrying,
    Applied,
    Dropped,
}

impl DeadLetterStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Retrying => "retrying",
            Self::Applied => "applied",
            Self::Dropped => "dropped",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Open, Self::Retrying, Self::Applied, Self::Dropped]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

const COLUMNS: &str =
    "id, view, log_id, position, event_id, stream, reason, event, status, attempts, created, updated";

impl Store {
    /// Returns up to `limit` dead letters with ids greater than `after`, in the order of their ids.
    pub async fn dead_letters(
        &self,
        status: Option<DeadLetterStatus>,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let mut sql = format!("SELECT {COLUMNS} FROM millrace_dead_letters WHERE id > ?");
        let mut parameters = vec![Cell::Text(after.map(|id| id.to_string()).unwrap_or_default())];
        if let Some(status) = status {
            sql.push_str(" AND status = ?");
            parameters.push(Cell::Text(status.as_str().to_owned()));
        }
        sql.push_str(&format!(" ORDER BY id LIMIT {}", limit.min(LIST_ROWS_MAX)));
        let rows = self.rows(sql, parameters).await?;
        rows.into_iter().map(|row| parse_dead_letter(row).ok_or_else(corrupt_row)).collect()
    }

    pub async fn dead_letter(&self, id: EventId) -> Result<Option<DeadLetter>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM millrace_dead_letters WHERE id = ?");
        let rows = self.rows(sql, vec![Cell::Text(id.to_string())]).await?;
        rows.into_iter().next().map(|row| parse_dead_letter(row).ok_or_else(corrupt_row)).transpose()
    }

    /// Returns the dead letters of one event, from all views.
    pub async fn dead_letters_at(&self, log: LogId, position: u64) -> Result<Vec<DeadLetter>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM millrace_dead_letters WHERE log_id = ? AND position = ?");
        let rows = self.rows(sql, vec![Cell::Bytes(log.0.to_vec()), Cell::Integer(position as i64)]).await?;
        rows.into_iter().map(|row| parse_dead_letter(row).ok_or_else(corrupt_row)).collect()
    }

    /// Returns the number of open dead letters.
    pub async fn open_dead_letters(&self) -> Result<i64, StoreError> {
        let rows = self
            .rows("SELECT COUNT(*) FROM millrace_dead_letters WHERE status = 'open'".to_owned(), Vec::new())
            .await?;
        match rows.first().map(Vec::as_slice) {
            Some([Cell::Integer(count)]) => Ok(*count),
            _ => Err(corrupt_row()),
        }
    }

    /// Returns the ids of the dead letters at `positions`, each with its number of attempts.
    pub async fn dead_letter_attempts(
        &self,
        log: LogId,
        positions: &[u64],
    ) -> Result<Vec<(EventId, i64)>, StoreError> {
        let mut found = Vec::new();
        for page in positions.chunks(DEAD_LETTERS_LOOKED_UP_MAX) {
            let marks = vec!["?"; page.len()].join(", ");
            let sql = format!(
                "SELECT id, attempts FROM millrace_dead_letters WHERE log_id = ? AND position IN ({marks})"
            );
            let mut parameters = vec![Cell::Bytes(log.0.to_vec())];
            parameters.extend(page.iter().map(|position| Cell::Integer(*position as i64)));
            for row in self.rows(sql, parameters).await? {
                found.push(match row.as_slice() {
                    [Cell::Text(id), Cell::Integer(attempts)] => {
                        (id.parse().map_err(|_| corrupt_row())?, *attempts)
                    }
                    _ => return Err(corrupt_row()),
                });
            }
        }
        Ok(found)
    }

    /// Removes the events from the dead letters at `positions`, and the reasons, which may quote the events. Letters
    /// that were not applied become dropped: they no longer need a decision.
    pub async fn clear_dead_letters_at(
        &self,
        log: LogId,
        positions: &[u64],
        at: Millis,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE millrace_dead_letters SET event = '{}', reason = 'erased', updated = ?, \
                   status = CASE WHEN status = 'applied' THEN status ELSE 'dropped' END WHERE log_id = ? AND position = ?";
        let of = |position: &u64| {
            let key = [Cell::Bytes(log.0.to_vec()), Cell::Integer(*position as i64)];
            (sql.to_owned(), [Cell::Integer(at.0)].into_iter().chain(key).collect())
        };
        self.change_all(positions.iter().map(of).collect()).await
    }

    /// Changes a dead letter's status from `from` to `to`. Returns `false` if the status was not `from`.
    pub async fn move_dead_letter(
        &self,
        id: EventId,
        from: DeadLetterStatus,
        to: DeadLetterStatus,
        at: Millis,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE millrace_dead_letters SET status = ?, updated = ? WHERE id = ? AND status = ?";
        let parameters = vec![
            Cell::Text(to.as_str().to_owned()),
            Cell::Integer(at.0),
            Cell::Text(id.to_string()),
            Cell::Text(from.as_str().to_owned()),
        ];
        Ok(self.change(sql.to_owned(), parameters).await? == 1)
    }
}

fn corrupt_row() -> StoreError {
    super::corrupt_row("millrace_dead_letters")
}

fn parse_dead_letter(row: Vec<Cell>) -> Option<DeadLetter> {
    let row: [Cell; 12] = row.try_into().ok()?;
    match row {
        [
            Cell::Text(id),
            Cell::Text(view),
            Cell::Bytes(log),
            Cell::Integer(position),
            Cell::Text(event_id),
            Cell::Text(stream),
            Cell::Text(reason),
            Cell::Text(event),
            Cell::Text(status),
            Cell::Integer(attempts),
            Cell::Integer(created),
            Cell::Integer(updated),
        ] => Some(DeadLetter {
            id: id.parse().ok()?,
            view,
            log: LogId(log.try_into().ok()?),
            position: position as u64,
            event_id: event_id.parse().ok()?,
            stream,
            reason,
            event,
            status: DeadLetterStatus::parse(&status)?,
            attempts,
            created: Millis(created),
            updated: Millis(updated),
        }),
        _ => None,
    }
}

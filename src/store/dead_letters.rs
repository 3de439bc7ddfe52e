//! Queries on stored dead letters, and the status changes that a person asks for. Plans write the rows themselves,
//! in the same transaction that moves the view past the event.

use event::limits::{DEAD_LETTERS_LOOKED_UP_MAX, LIST_ROWS_MAX, NEW_DEAD_LETTERS_COUNTED_MAX};
use event::{EventId, LogId, Millis};

use super::dedup_name::{DEDUP_NAME, DEDUP_STORED_NAME};
use super::stored_row::{FromCell, FromRow};
use super::{Cell, Store, StoreError};

/// An event or a notification that could not be handled, kept with its reason until a person decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub id: EventId,
    pub view: String,
    pub log: LogId,
    pub position: u64,
    pub event_id: EventId,
    pub stream: String,
    pub reason: String,
    /// The event, or what is sent for a notification.
    pub event: String,
    pub status: DeadLetterStatus,
    pub attempts: i64,
    pub created: Millis,
    pub updated: Millis,
    /// Set for a notification: its id, and the destination that it could not be sent to.
    pub notification: Option<String>,
    pub destination: Option<String>,
    /// Why a person dropped it.
    pub note: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadLetterStatus {
    Open,
    /// Sent again, but its view has not reached it yet.
    Retrying,
    Applied,
    /// A notification that was sent in a later attempt.
    Sent,
    Dropped,
}

/// Open dead letters that were added after a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewDeadLetters {
    pub count: i64,
    /// When the last one was added.
    pub newest: Millis,
}

/// Which dead letters to list; `None` stands for all.
#[derive(Clone, Debug, Default)]
pub struct DeadLetterFilter {
    pub status: Option<DeadLetterStatus>,
    pub view: Option<String>,
    pub destination: Option<String>,
}

impl DeadLetterStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Retrying => "retrying",
            Self::Applied => "applied",
            Self::Sent => "sent",
            Self::Dropped => "dropped",
        }
    }

    pub const ALL: [Self; 5] = [Self::Open, Self::Retrying, Self::Applied, Self::Sent, Self::Dropped];

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// Returns the id under which dedup knows the retry of dead letter `id` after `attempts` earlier attempts.
pub fn retry_id(id: EventId, attempts: i64) -> EventId {
    EventId::derived("dead-letter-attempt", &id.to_string(), &attempts.to_string())
}

const TABLE: &str = "millrace_dead_letters";
const COLUMNS: &str = "id, view, log_id, position, event_id, stream, reason, event, status, attempts, created, updated, notification, destination, note";

impl Store {
    /// Returns up to `limit` dead letters of `filter` with ids greater than `after`, in the order of their ids.
    pub async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let mut sql = format!("SELECT {COLUMNS} FROM millrace_dead_letters WHERE id > ?");
        let mut parameters = vec![after.map_or_else(|| "".into(), Cell::from)];
        let DeadLetterFilter { status, view, destination } = filter;
        let wanted = [
            ("status", status.map(DeadLetterStatus::as_str)),
            ("view", view.as_deref().map(|view| if view == DEDUP_NAME { DEDUP_STORED_NAME } else { view })),
            ("destination", destination.as_deref()),
        ];
        for (column, value) in wanted {
            if let Some(value) = value {
                sql.push_str(&format!(" AND {column} = ?"));
                parameters.push(value.into());
            }
        }
        sql.push_str(&format!(" ORDER BY id LIMIT {}", limit.min(LIST_ROWS_MAX)));
        self.read(TABLE, &sql, parameters).await
    }

    pub async fn dead_letter(&self, id: EventId) -> Result<Option<DeadLetter>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM millrace_dead_letters WHERE id = ?");
        self.read_first(TABLE, &sql, vec![id.into()]).await
    }

    /// Returns the dead letters of one event that views could not apply, without those of its notifications.
    pub async fn dead_letters_at(&self, log: LogId, position: u64) -> Result<Vec<DeadLetter>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM millrace_dead_letters WHERE log_id = ? AND position = ? AND destination IS NULL"
        );
        self.read(TABLE, &sql, vec![log.into(), position.into()]).await
    }

    /// Returns the log and position of the last retry of a dead letter; `None` if it was not retried since it was last
    /// open, or if dedup has not seen the retry yet.
    pub async fn retry_position(&self, dead_letter: &DeadLetter) -> Result<Option<(LogId, u64)>, StoreError> {
        self.first_position(retry_id(dead_letter.id, dead_letter.attempts)).await
    }

    /// Returns the number of open dead letters.
    pub async fn open_dead_letters(&self) -> Result<i64, StoreError> {
        let sql = "SELECT COUNT(*) FROM millrace_dead_letters WHERE status = 'open'";
        Ok(self.read_first(TABLE, sql, Vec::new()).await?.unwrap_or(0))
    }

    /// Returns the open dead letters that were added after a time. The count stops at a bound.
    pub async fn new_dead_letters(&self, after: Millis) -> Result<NewDeadLetters, StoreError> {
        let sql = format!(
            "SELECT count(*), max(updated) FROM (SELECT updated FROM millrace_dead_letters \
             WHERE status = 'open' AND updated > ? ORDER BY updated DESC LIMIT {NEW_DEAD_LETTERS_COUNTED_MAX}) AS newest"
        );
        let found: Option<(i64, Option<Millis>)> = self.read_first(TABLE, &sql, vec![after.into()]).await?;
        let (count, newest) = found.unwrap_or_default();
        Ok(NewDeadLetters { count, newest: newest.unwrap_or(after) })
    }

    /// Returns the ids of the dead letters of the events at `positions`, each with its number of attempts.
    pub async fn dead_letter_attempts(
        &self,
        log: LogId,
        positions: &[u64],
    ) -> Result<Vec<(EventId, i64)>, StoreError> {
        let mut found = Vec::new();
        for page in positions.chunks(DEAD_LETTERS_LOOKED_UP_MAX) {
            let marks = vec!["?"; page.len()].join(", ");
            let sql = format!(
                "SELECT id, attempts FROM millrace_dead_letters WHERE destination IS NULL AND log_id = ? AND position IN ({marks})"
            );
            let mut parameters = vec![log.into()];
            parameters.extend(page.iter().map(|position| Cell::from(*position)));
            found.extend(self.read::<(EventId, i64)>(TABLE, &sql, parameters).await?);
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
                   status = CASE WHEN status IN ('applied', 'sent') THEN status ELSE 'dropped' END WHERE log_id = ? AND position = ?";
        let of = |position: &u64| (sql.to_owned(), vec![at.into(), log.into(), (*position).into()]);
        self.change_all(positions.iter().map(of).collect()).await.map(drop)
    }

    /// Notes why a person dropped a dead letter.
    pub async fn note_dead_letter(&self, id: EventId, note: &str) -> Result<(), StoreError> {
        let sql = "UPDATE millrace_dead_letters SET note = ? WHERE id = ?";
        self.change(sql.to_owned(), vec![note.into(), id.into()]).await.map(drop)
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
        let parameters = vec![to.as_str().into(), at.into(), id.into(), from.as_str().into()];
        Ok(self.change(sql.to_owned(), parameters).await? == 1)
    }
}

impl FromCell for DeadLetterStatus {
    fn from_cell(cell: Cell) -> Option<Self> {
        Self::parse(&String::from_cell(cell)?)
    }
}

impl FromRow for DeadLetter {
    fn from_row(row: Vec<Cell>) -> Option<Self> {
        let (
            id,
            view,
            log,
            position,
            event_id,
            stream,
            reason,
            event,
            status,
            attempts,
            created,
            updated,
            notification,
            destination,
            note,
        ) = FromRow::from_row(row)?;
        Some(Self {
            id,
            view,
            log,
            position,
            event_id,
            stream,
            reason,
            event,
            status,
            attempts,
            created,
            updated,
            notification,
            destination,
            note,
        })
    }
}

//! Writes a plan's changes to dead letters, and the positions that a view does not apply because of them.

use std::borrow::Cow;

use event::LogId;

use crate::store::cell::Cell;
use crate::store::dead_letter_change::{DeadLetterChange, NewDeadLetter};
use crate::store::millrace_tables::{dead_letters_table, passed_table};
use crate::store::session::Session;
use crate::store::{DeadLetterStatus, StoreError};

/// Bytes reserved in a row for ids, positions and times, and for the lengths of all values.
const FIXED_FIELDS_BYTES: usize = 512;

/// Applies all changes. New dead letters are inserted together, because there can be one for each event of a batch.
pub async fn change_all(
    session: &mut impl Session,
    log: LogId,
    changes: &[DeadLetterChange],
) -> Result<(), StoreError> {
    let mut dead_letters = Vec::new();
    for change in changes {
        match change {
            DeadLetterChange::New(dead_letter) => dead_letters.push(dead_letter),
            DeadLetterChange::Applied { id, at } => {
                let sql = "UPDATE millrace_dead_letters SET status = ?, updated = ? WHERE id = ?";
                let parameters = [DeadLetterStatus::Applied.as_str().into(), (*at).into(), (*id).into()];
                session.change(sql, &parameters).await?;
            }
            DeadLetterChange::Again { id, view, position, reason, at } => {
                let sql = "UPDATE millrace_dead_letters SET status = ?, reason = ?, attempts = attempts + 1, updated = ? WHERE id = ?";
                let status = DeadLetterStatus::Open.as_str();
                let parameters = [status.into(), reason.as_str().into(), (*at).into(), (*id).into()];
                session.change(sql, &parameters).await?;
                session.insert_new(&passed_table(), &passed_row(log, view, *position)).await?;
            }
        }
    }
    if dead_letters.is_empty() {
        return Ok(());
    }
    new(session, log, &dead_letters).await?;
    let passed: Vec<Cell> = dead_letters
        .iter()
        .flat_map(|dead_letter| passed_row(log, &dead_letter.view, dead_letter.position))
        .collect();
    session.insert_new(&passed_table(), &passed).await
}

/// Returns a row of `millrace_passed`: a position that the view does not apply.
fn passed_row(log: LogId, view: &str, position: u64) -> [Cell; 4] {
    [view.into(), log.into(), Cell::Integer(0), position.into()]
}

/// Inserts new dead letters as open, with one attempt.
pub async fn new(
    session: &mut impl Session,
    log: LogId,
    dead_letters: &[&NewDeadLetter],
) -> Result<(), StoreError> {
    let bytes_max = session.row_bytes_max();
    let mut cells: Vec<Cell> = Vec::new();
    for dead_letter in dead_letters {
        cells.extend([
            dead_letter.id.into(),
            dead_letter.view.as_str().into(),
            log.into(),
            Cell::Integer(0),
            dead_letter.position.into(),
            dead_letter.event_id.into(),
            dead_letter.stream.as_str().into(),
            dead_letter.reason.as_str().into(),
            event_to_store(dead_letter, bytes_max).as_ref().into(),
            DeadLetterStatus::Open.as_str().into(),
            Cell::Integer(1),
            dead_letter.at.into(),
            dead_letter.at.into(),
        ]);
        match &dead_letter.delivery {
            Some((notification, destination)) => {
                cells.extend([notification.as_str().into(), destination.as_str().into()]);
            }
            None => cells.extend([Cell::Null, Cell::Null]),
        }
        cells.push(Cell::Null);
    }
    session.insert_new(&dead_letters_table(), &cells).await
}

/// Returns the event, or a note with its position if the row would be too large. An event that is too large for its
/// view's table would otherwise have no dead letter either, and the view could not continue.
fn event_to_store(dead_letter: &NewDeadLetter, bytes_max: usize) -> Cow<'_, str> {
    let texts = dead_letter.view.len() + dead_letter.stream.len() + dead_letter.reason.len();
    if dead_letter.event.len() + texts + FIXED_FIELDS_BYTES > bytes_max {
        Cow::Owned(format!(
            r#"{{"millrace":"too large for `max_allowed_packet`: it is in the log at position {}"}}"#,
            dead_letter.position
        ))
    } else {
        Cow::Borrowed(&dead_letter.event)
    }
}

//! Dead letters as a plan changes them, and the positions that a view passed by with them.

use std::borrow::Cow;

use event::LogId;

use super::session::Session;
use crate::store::plan::{DeadLetterChange, NewDeadLetter};
use crate::store::tables::{Cell, dead_letters_table, passed_table};
use crate::store::{DeadLetterStatus, StoreError};

/// Ids, positions, times, and how long each is.
const LETTER_BYTES_BESIDE: usize = 512;

/// New ones all at once: there may be one for each event of a batch.
pub async fn change_all(
    session: &mut Session,
    log: LogId,
    changes: &[DeadLetterChange],
) -> Result<(), StoreError> {
    let mut dead_letters = Vec::new();
    for change in changes {
        match change {
            DeadLetterChange::New(letter) => dead_letters.push(letter),
            change => self::change(session, log, change).await?,
        }
    }
    if dead_letters.is_empty() {
        return Ok(());
    }
    new(session, log, &dead_letters).await?;
    let passed: Vec<Cell> =
        dead_letters.iter().flat_map(|letter| passed(log, &letter.view, letter.position)).collect();
    session.insert_new(&passed_table(), &passed).await
}

async fn change(session: &mut Session, log: LogId, change: &DeadLetterChange) -> Result<(), StoreError> {
    match change {
        // Written with all that are new.
        DeadLetterChange::New(_) => Ok(()),
        DeadLetterChange::Applied { id, at } => {
            let sql = "UPDATE millrace_dead_letters SET status = ?, updated = ? WHERE id = ?";
            let parameters = [status(DeadLetterStatus::Applied), Cell::Integer(at.0), text(&id.to_string())];
            session.change(sql, &parameters).await.map(drop)
        }
        DeadLetterChange::Again { id, view, position, reason, at } => {
            let sql = "UPDATE millrace_dead_letters SET status = ?, reason = ?, attempts = attempts + 1, updated = ? WHERE id = ?";
            let parameters =
                [status(DeadLetterStatus::Open), text(reason), Cell::Integer(at.0), text(&id.to_string())];
            session.change(sql, &parameters).await?;
            session.insert_new(&passed_table(), &passed(log, view, *position)).await
        }
    }
}

fn passed(log: LogId, view: &str, position: u64) -> [Cell; 4] {
    [text(view), Cell::Bytes(log.0.to_vec()), Cell::Integer(0), Cell::Integer(position as i64)]
}

pub async fn new(
    session: &mut Session,
    log: LogId,
    dead_letters: &[&NewDeadLetter],
) -> Result<(), StoreError> {
    let bytes_max = session.row_bytes_max();
    let mut cells = Vec::new();
    for letter in dead_letters {
        cells.extend([
            text(&letter.id.to_string()),
            text(&letter.view),
            Cell::Bytes(log.0.to_vec()),
            Cell::Integer(0),
            Cell::Integer(letter.position as i64),
            text(&letter.event_id.to_string()),
            text(&letter.stream),
            text(&letter.reason),
            text(&event_within(letter, bytes_max)),
            status(DeadLetterStatus::Open),
            Cell::Integer(1),
            Cell::Integer(letter.at.0),
            Cell::Integer(letter.at.0),
        ]);
    }
    session.insert_new(&dead_letters_table(), &cells).await
}

/// The event, or where it is. Without its letter a view could not pass by what is too large for its own row.
fn event_within(letter: &NewDeadLetter, bytes_max: usize) -> Cow<'_, str> {
    let derived_index = letter.view.len() + letter.stream.len() + letter.reason.len() + LETTER_BYTES_BESIDE;
    match letter.event.len() + derived_index > bytes_max {
        true => Cow::Owned(format!(
            r#"{{"millrace":"too large for `max_allowed_packet`: it is in the log at position {}"}}"#,
            letter.position
        )),
        false => Cow::Borrowed(&letter.event),
    }
}

fn status(status: DeadLetterStatus) -> Cell {
    text(status.as_str())
}

fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}

//! Dead letters as a plan changes them, and the positions that a view passed by with them.

use event::LogId;
use rusqlite::{Connection, params};

use crate::store::DeadLetterStatus;
use crate::store::plan::{DeadLetterChange, NewDeadLetter};

pub fn change(connection: &Connection, log: LogId, change: &DeadLetterChange) -> rusqlite::Result<()> {
    match change {
        DeadLetterChange::New(letter) => {
            new(connection, log, letter)?;
            pass_by(connection, log, &letter.view, letter.position)
        }
        DeadLetterChange::Applied { id, at } => {
            let sql = "UPDATE millrace_dead_letters SET status = ?1, updated = ?2 WHERE id = ?3";
            connection
                .execute(sql, params![DeadLetterStatus::Applied.as_str(), at.0, id.to_string()])
                .map(drop)
        }
        DeadLetterChange::Again { id, view, position, reason, at } => {
            let sql = "UPDATE millrace_dead_letters SET status = ?1, reason = ?2, attempts = attempts + 1, updated = ?3 WHERE id = ?4";
            connection
                .execute(sql, params![DeadLetterStatus::Open.as_str(), reason, at.0, id.to_string()])?;
            pass_by(connection, log, view, *position)
        }
    }
}

fn pass_by(connection: &Connection, log: LogId, view: &str, position: u64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO millrace_passed (view, log_id, part, position) VALUES (?1, ?2, 0, ?3) ON CONFLICT DO NOTHING";
    connection.prepare_cached(sql)?.execute(params![view, log.0, position as i64]).map(drop)
}

pub fn new(connection: &Connection, log: LogId, letter: &NewDeadLetter) -> rusqlite::Result<()> {
    let sql = "INSERT INTO millrace_dead_letters (id, view, log_id, part, position, event_id, stream, reason, event, status, attempts, created, updated)
               VALUES (?1, ?2, ?3, 0, ?4, ?5, ?6, ?7, ?8, ?9, 1, ?10, ?10)
               ON CONFLICT DO NOTHING";
    connection.prepare_cached(sql)?.execute(params![
        letter.id.to_string(),
        letter.view,
        log.0,
        letter.position as i64,
        letter.event_id.to_string(),
        letter.stream,
        letter.reason,
        letter.event,
        DeadLetterStatus::Open.as_str(),
        letter.at.0,
    ])?;
    Ok(())
}

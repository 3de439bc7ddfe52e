//! Applies a plan's changes to dead letters, and records the positions that a view passed over because of them.

use event::LogId;
use rusqlite::{Connection, params};

use crate::store::DeadLetterStatus;
use crate::store::plan::{DeadLetterChange, NewDeadLetter};

pub fn change(connection: &Connection, log: LogId, change: &DeadLetterChange) -> rusqlite::Result<()> {
    match change {
        DeadLetterChange::New(dead_letter) => {
            insert(connection, log, dead_letter)?;
            record_passed(connection, log, &dead_letter.view, dead_letter.position)
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
            record_passed(connection, log, view, *position)
        }
    }
}

fn record_passed(connection: &Connection, log: LogId, view: &str, position: u64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO millrace_passed (view, log_id, part, position) VALUES (?1, ?2, 0, ?3) ON CONFLICT DO NOTHING";
    connection.prepare_cached(sql)?.execute(params![view, log.0, position as i64]).map(drop)
}

pub fn insert(connection: &Connection, log: LogId, dead_letter: &NewDeadLetter) -> rusqlite::Result<()> {
    let sql = "INSERT INTO millrace_dead_letters (id, view, log_id, part, position, event_id, stream, reason, event, status, attempts, created, updated)
               VALUES (?1, ?2, ?3, 0, ?4, ?5, ?6, ?7, ?8, ?9, 1, ?10, ?10)
               ON CONFLICT DO NOTHING";
    connection.prepare_cached(sql)?.execute(params![
        dead_letter.id.to_string(),
        dead_letter.view,
        log.0,
        dead_letter.position as i64,
        dead_letter.event_id.to_string(),
        dead_letter.stream,
        dead_letter.reason,
        dead_letter.event,
        DeadLetterStatus::Open.as_str(),
        dead_letter.at.0,
    ])?;
    Ok(())
}

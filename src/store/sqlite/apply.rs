//! Applies a plan in SQLite: first the claim, then rows, dead letters, dedup rows and corrections. The writer has
//! already opened the transaction.

use event::LogId;
use rusqlite::{Connection, OptionalExtension, params};

use super::errors::classify;
use super::{counts, dead_letters, dedup, member_days, numbered_rows, statements};
use crate::store::StoreError;
use crate::store::plan::{Claim, CorrectedEvent, Plan, Skipped, Verb, Write};

pub fn apply(connection: &Connection, plan: &Plan) -> Result<Vec<Skipped>, StoreError> {
    failpoint::hit("store.begin");
    if !failpoint::skips("store.claim") {
        claim(connection, &plan.claim)?;
    }
    for write in &plan.writes {
        execute(connection, write).map_err(classify)?;
    }
    if let Some(changes) = &plan.rows {
        numbered_rows::change(connection, &plan.claim, changes)?;
    }
    failpoint::hit("store.written");
    for change in &plan.dead_letters {
        dead_letters::change(connection, plan.claim.log, change).map_err(classify)?;
    }
    let mut skipped = Vec::new();
    for entry in &plan.seen {
        skipped.extend(dedup::record(connection, plan.claim.log, entry).map_err(classify)?);
    }
    for corrected in &plan.corrected {
        // A repeated correction has no effect.
        if !skipped.iter().any(|skipped: &Skipped| skipped.position == corrected.by) {
            record_correction(connection, plan.claim.log, *corrected).map_err(classify)?;
        }
    }
    Ok(skipped)
}

fn execute(connection: &Connection, write: &Write) -> rusqlite::Result<()> {
    match write.verb {
        Verb::Tally => counts::execute(connection, write),
        Verb::Visit => member_days::execute(connection, write),
        Verb::Add => each_row(connection, write, &statements::add(&write.table)),
        Verb::InsertNew => each_row(connection, write, &statements::insert_new(&write.table)),
        Verb::Remove => each_row(connection, write, &statements::remove(&write.table)),
    }
}

fn each_row(connection: &Connection, write: &Write, sql: &str) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(sql)?;
    for row in write.rows() {
        statement.execute(rusqlite::params_from_iter(row))?;
    }
    Ok(())
}

/// Records that an event is corrected. Only the first correction of an event counts.
fn record_correction(connection: &Connection, log: LogId, corrected: CorrectedEvent) -> rusqlite::Result<()> {
    let sql = "INSERT OR IGNORE INTO millrace_taken_back (log_id, part, position, by_position) VALUES (?1, 0, ?2, ?3)";
    let row = params![log.0, corrected.position as i64, corrected.by as i64];
    connection.prepare_cached(sql)?.execute(row).map(drop)
}

/// Moves the view's position. Exactly one row must change; otherwise the plan must not be applied.
fn claim(connection: &Connection, claim: &Claim) -> Result<(), StoreError> {
    let sql = "UPDATE millrace_positions SET position = ?1 WHERE view = ?2 AND log_id = ?3 AND part = 0 AND position = ?4";
    let mut statement = connection.prepare_cached(sql).map_err(classify)?;
    let changed = statement
        .execute(params![claim.to as i64, claim.view, claim.log.0, claim.from as i64])
        .map_err(classify)?;
    match changed {
        1 => Ok(()),
        _ => Err(StoreError::Claimed {
            view: claim.view.clone(),
            expected: claim.from,
            found: stored_position(connection, claim).map_err(classify)?,
        }),
    }
}

pub fn stored_position(connection: &Connection, claim: &Claim) -> rusqlite::Result<Option<u64>> {
    let sql = "SELECT position FROM millrace_positions WHERE view = ?1 AND log_id = ?2 AND part = 0";
    let row = connection
        .prepare_cached(sql)?
        .query_row(params![claim.view, claim.log.0], |row| row.get::<_, i64>(0));
    Ok(row.optional()?.map(|position| position as u64))
}

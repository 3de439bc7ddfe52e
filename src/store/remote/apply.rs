//! A plan as a database server carries it out: the claim first, then rows, dead letters and what the gate
//! notes, in the transaction that is open.

use event::LogId;
use journal::failpoint;

use super::session::Session;
use super::{dead_letters, dedup, member_days, numbered_rows};
use crate::store::plan::{Claim, CorrectedEvent, Plan, Skipped, Stamp, Verb, Write};
use crate::store::tables::{Cell, taken_back_table};
use crate::store::{StoreError, corrupt_row};

pub async fn apply(session: &mut Session, plan: &Plan) -> Result<Vec<Skipped>, StoreError> {
    failpoint::hit("store.begin");
    if claim(session, plan).await? == Claimed::Before && !failpoint::skips("store.stamp") {
        return dedup::skipped(session, plan.claim.log, &plan.seen).await;
    }
    for write in &plan.writes {
        carry_out(session, write).await?;
    }
    if let Some(changes) = &plan.rows {
        numbered_rows::change(session, &plan.claim, changes).await?;
    }
    failpoint::hit("store.written");
    dead_letters::change_all(session, plan.claim.log, &plan.dead_letters).await?;
    let skipped = dedup::note_all(session, plan.claim.log, &plan.seen).await?;
    take_back(session, plan.claim.log, &plan.corrected, &skipped).await?;
    failpoint::hit("store.commit");
    Ok(skipped)
}

async fn carry_out(session: &mut Session, write: &Write) -> Result<(), StoreError> {
    let Write { table, cells, .. } = write;
    match write.verb {
        Verb::Add => session.add(table, cells).await,
        Verb::Tally => tally(session, write).await,
        Verb::Visit => member_days::carry_out(session, write).await,
        Verb::InsertNew => session.insert_new(table, cells).await,
        Verb::Remove => session.remove(table, cells).await,
    }
}

/// A row can only come to 0 where something is taken from it.
pub async fn tally(session: &mut Session, write: &Write) -> Result<(), StoreError> {
    let width = write.table.columns.len();
    session.add(&write.table, &write.cells).await?;
    let mut nothing_left = Vec::new();
    for row in write.cells.chunks_exact(width) {
        if matches!(row.last(), Some(Cell::Integer(change)) if *change < 0) {
            nothing_left.extend_from_slice(&row[..width - 1]);
            nothing_left.push(Cell::Integer(0));
        }
    }
    match nothing_left.is_empty() {
        true => Ok(()),
        false => session.remove(&write.table, &nothing_left).await,
    }
}

/// The first to take an event back does; a correction that was sent before takes nothing back once more.
async fn take_back(
    session: &mut Session,
    log: LogId,
    taken: &[CorrectedEvent],
    skipped: &[Skipped],
) -> Result<(), StoreError> {
    let mut cells = Vec::new();
    for CorrectedEvent { position, by } in taken {
        if !skipped.iter().any(|skipped| skipped.position == *by) {
            let numbers = [0, *position as i64, *by as i64].map(Cell::Integer);
            cells.push(Cell::Bytes(log.0.to_vec()));
            cells.extend(numbers);
        }
    }
    match cells.is_empty() {
        true => Ok(()),
        false => session.insert_new(&taken_back_table(), &cells).await,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claimed {
    Now,
    /// By an attempt whose answer was lost: all of the plan is in the store.
    Before,
}

/// Exactly one row must change, or the plan is not ours to apply. The stamp keeps out a plan that leaves the
/// position where it is and was applied before.
async fn claim(session: &mut Session, plan: &Plan) -> Result<Claimed, StoreError> {
    let Plan { claim, stamp, .. } = plan;
    let sql = "UPDATE millrace_positions SET position = ?, stamp = ? WHERE view = ? AND log_id = ? AND part = 0 AND position = ? \
               AND (stamp IS NULL OR stamp <> ?)";
    let stamped = || Cell::Bytes(stamp.0.to_vec());
    let parameters = [
        Cell::Integer(claim.to as i64),
        stamped(),
        Cell::Text(claim.view.clone()),
        Cell::Bytes(claim.log.0.to_vec()),
        Cell::Integer(claim.from as i64),
        stamped(),
    ];
    if session.change(sql, &parameters).await? == 1 {
        return Ok(Claimed::Now);
    }
    match stored(session, claim).await? {
        Some((_, Some(found))) if found == *stamp => Ok(Claimed::Before),
        found => Err(StoreError::Claimed {
            view: claim.view.clone(),
            expected: claim.from,
            found: found.map(|(position, _)| position),
        }),
    }
}

/// Where a view stands, and which plan brought it there.
pub async fn stored(
    session: &mut Session,
    claim: &Claim,
) -> Result<Option<(u64, Option<Stamp>)>, StoreError> {
    let sql = "SELECT position, stamp FROM millrace_positions WHERE view = ? AND log_id = ? AND part = 0";
    let parameters = [Cell::Text(claim.view.clone()), Cell::Bytes(claim.log.0.to_vec())];
    let Some(row) = session.rows(sql, &parameters).await?.into_iter().next() else { return Ok(None) };
    match <[Cell; 2]>::try_from(row) {
        Ok([Cell::Integer(position), Cell::Null]) => Ok(Some((position as u64, None))),
        Ok([Cell::Integer(position), Cell::Bytes(stamp)]) => {
            Ok(Some((position as u64, stamp.try_into().ok().map(Stamp))))
        }
        _ => Err(corrupt_row("millrace_positions")),
    }
}

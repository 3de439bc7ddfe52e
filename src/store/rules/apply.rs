//! Applies a plan inside the open transaction: the claim first, then rows, dead letters and
//! dedup entries.

use event::LogId;

use super::{dead_letters, dedup, member_days, numbered_rows};
use crate::store::own_tables::taken_back_table;
use crate::store::plan::{Claim, CorrectedEvent, Plan, Skipped, Stamp, Verb, Write};
use crate::store::session::Session;

use crate::store::tables::Cell;
use crate::store::{StoreError, corrupt_row};

/// Applies `plan` and returns the events that dedup skipped. If an earlier attempt committed the plan, writes
/// nothing and returns what that attempt found.
pub async fn apply(session: &mut impl Session, plan: &Plan) -> Result<Vec<Skipped>, StoreError> {
    failpoint::hit("store.begin");
    if !failpoint::skips("store.claim")
        && claim(session, plan).await? == Claimed::AlreadyApplied
        && !failpoint::skips("store.stamp")
    {
        return dedup::skipped(session, plan.claim.log, &plan.seen).await;
    }
    for write in &plan.writes {
        apply_write(session, write).await?;
    }
    if let Some(changes) = &plan.rows {
        numbered_rows::change(session, &plan.claim, changes).await?;
    }
    failpoint::hit("store.written");
    dead_letters::change_all(session, plan.claim.log, &plan.dead_letters).await?;
    let skipped = dedup::record_all(session, plan.claim.log, &plan.seen).await?;
    record_corrections(session, plan.claim.log, &plan.corrected, &skipped).await?;
    Ok(skipped)
}

async fn apply_write(session: &mut impl Session, write: &Write) -> Result<(), StoreError> {
    let Write { table, cells, .. } = write;
    match write.verb {
        Verb::Add => session.add(table, cells).await,
        Verb::Tally => session.tally(table, cells).await,
        Verb::Visit => member_days::apply(session, write).await,
        Verb::InsertNew => session.insert_new(table, cells).await,
        Verb::Remove => session.remove(table, cells).await,
    }
}

/// Records which events were corrected. Only the first correction of an event counts, and a correction that dedup
/// skipped as a repeat corrects nothing.
async fn record_corrections(
    session: &mut impl Session,
    log: LogId,
    corrected: &[CorrectedEvent],
    skipped: &[Skipped],
) -> Result<(), StoreError> {
    let mut cells = Vec::new();
    for CorrectedEvent { position, by } in corrected {
        if !skipped.iter().any(|skipped| skipped.position == *by) {
            let numbers = [0, *position as i64, *by as i64].map(Cell::Integer);
            cells.push(Cell::Bytes(log.0.to_vec()));
            cells.extend(numbers);
        }
    }
    if cells.is_empty() { Ok(()) } else { session.insert_new(&taken_back_table(), &cells).await }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claimed {
    Now,
    /// An earlier attempt committed, but its reply was lost. The whole plan is in the store.
    AlreadyApplied,
}

/// Moves the view's position. Fails unless exactly one row changes, because another node has then moved the view. The
/// stamp also rejects a plan that was applied before and that does not change the position.
async fn claim(session: &mut impl Session, plan: &Plan) -> Result<Claimed, StoreError> {
    let Plan { claim, stamp, .. } = plan;
    let sql = "UPDATE millrace_positions SET position = ?, stamp = ? WHERE view = ? AND log_id = ? AND part = 0 AND position = ? \
               AND (stamp IS NULL OR stamp <> ?)";
    let stamp_cell = || Cell::Bytes(stamp.0.to_vec());
    let parameters = [
        Cell::Integer(claim.to as i64),
        stamp_cell(),
        Cell::Text(claim.view.clone()),
        Cell::Bytes(claim.log.0.to_vec()),
        Cell::Integer(claim.from as i64),
        stamp_cell(),
    ];
    if session.change(sql, &parameters).await? == 1 {
        return Ok(Claimed::Now);
    }
    match stored_position(session, claim).await? {
        Some((_, Some(found))) if found == *stamp => Ok(Claimed::AlreadyApplied),
        found => Err(StoreError::Claimed {
            view: claim.view.clone(),
            expected: claim.from,
            found: found.map(|(position, _)| position),
        }),
    }
}

/// Returns a view's position and the stamp of the plan that last moved it.
pub async fn stored_position(
    session: &mut impl Session,
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

//! Applies a plan inside the open transaction: the claim first, then rows, dead letters and dedup entries.

use event::LogId;

use super::claim::{Claimed, claim};
use super::{dead_letters, dedup, definitions, member_days, notifications, numbered_rows};
use crate::store::StoreError;
use crate::store::cell::Cell;
use crate::store::dedup_rule::Skipped;
use crate::store::millrace_tables::taken_back_table;
use crate::store::plan::{CorrectedEvent, Plan, Verb, Write};
use crate::store::session::Session;

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
    if let Some(change) = &plan.definition {
        definitions::change(session, &plan.claim, change).await?;
    }
    for write in &plan.writes {
        apply_write(session, write).await?;
    }
    if let Some(visits) = &plan.visits {
        member_days::apply(session, visits).await?;
    }
    if let Some(changes) = &plan.rows {
        numbered_rows::change(session, &plan.claim, changes).await?;
    }
    if let Some(changes) = &plan.notifications {
        notifications::change_all(session, &plan.claim.view, plan.claim.log, changes).await?;
    }
    failpoint::hit("store.written");
    dead_letters::change_all(session, plan.claim.log, &plan.dead_letters).await?;
    let skipped = dedup::record_all(session, plan.claim.log, &plan.seen, &plan.clock_jumps).await?;
    record_corrections(session, plan.claim.log, &plan.corrected, &skipped).await?;
    Ok(skipped)
}

async fn apply_write(session: &mut impl Session, write: &Write) -> Result<(), StoreError> {
    let Write { table, cells, .. } = write;
    match write.verb {
        Verb::Add => session.add(table, cells).await,
        Verb::Tally => session.tally(table, cells).await,
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

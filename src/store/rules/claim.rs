//! The claim: the compare-and-set of a view's position, first thing in the transaction of a plan. If the stored position
//! is not the expected one, the plan changes nothing.

use crate::store::plan::{Claim, Plan, Stamp};
use crate::store::session::Session;
use crate::store::tables::Cell;
use crate::store::{StoreError, corrupt_row};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    Now,
    /// An earlier attempt committed, but its reply was lost. The whole plan is in the store.
    AlreadyApplied,
}

/// Moves the view's position. Fails unless exactly one row changes, because another node has then moved the view. The
/// stamp also rejects a plan that was applied before and that does not change the position.
pub async fn claim(session: &mut impl Session, plan: &Plan) -> Result<Claimed, StoreError> {
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

//! The claim: the compare-and-set of a view's position, first thing in the transaction of a plan. If the stored position
//! is not the expected one, the plan changes nothing.

use crate::store::StoreError;
use crate::store::cell::Cell;
use crate::store::dedup_name::shown_name;
use crate::store::plan::{Claim, Plan, Stamp};
use crate::store::session::Session;
use crate::store::stored_row::decoded;

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
    let definition = if claim.definition.is_some() { "definition = ?" } else { "definition IS NULL" };
    let sql = format!(
        "UPDATE millrace_positions SET position = ?, stamp = ? WHERE view = ? AND log_id = ? AND part = 0 AND position = ? \
         AND (stamp IS NULL OR stamp <> ?) AND {definition}"
    );
    let stamp_cell = || Cell::Bytes(stamp.0.to_vec());
    let mut parameters = vec![
        claim.to.into(),
        stamp_cell(),
        claim.view.as_str().into(),
        claim.log.into(),
        claim.from.into(),
        stamp_cell(),
    ];
    parameters.extend(claim.definition.map(Cell::from));
    if session.change(&sql, &parameters).await? == 1 {
        return Ok(Claimed::Now);
    }
    let view = || shown_name(&claim.view).to_owned();
    match stored_position(session, claim).await? {
        Some(found) if found.stamp == Some(*stamp) => Ok(Claimed::AlreadyApplied),
        Some(found) if found.position == claim.from => Err(StoreError::Redefined(view())),
        found => Err(StoreError::Claimed {
            view: view(),
            expected: claim.from,
            found: found.map(|found| found.position),
        }),
    }
}

/// A view's position, and the stamp of the plan that last moved it.
pub struct StoredPosition {
    pub position: u64,
    stamp: Option<Stamp>,
}

pub async fn stored_position(
    session: &mut impl Session,
    claim: &Claim,
) -> Result<Option<StoredPosition>, StoreError> {
    let sql = "SELECT position, stamp FROM millrace_positions WHERE view = ? AND log_id = ? AND part = 0";
    let parameters = [claim.view.as_str().into(), claim.log.into()];
    let Some(row) = session.rows(sql, &parameters).await?.into_iter().next() else { return Ok(None) };
    let (position, stamp): (_, Option<_>) = decoded("millrace_positions", row)?;
    Ok(Some(StoredPosition { position, stamp: stamp.map(Stamp) }))
}

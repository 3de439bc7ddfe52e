//! Tables with one row per event: adds, restores and deletes rows, and records which event made which row.

use super::row_origins;
use crate::store::StoreError;
use crate::store::numbered_rows::{RowChanges, RowsOf, RowsToDelete};
use crate::store::plan::Claim;
use crate::store::row_origins::RowOrigin;
use crate::store::session::Session;

/// Adds, restores and deletes rows, and records which event made which row.
pub async fn change(
    session: &mut impl Session,
    claim: &Claim,
    changes: &RowChanges,
) -> Result<(), StoreError> {
    let of = RowsOf { view: claim.view.clone(), log: claim.log, table: changes.table.clone() };
    if !changes.from.is_empty() {
        let numbers = session.insert_numbered(&of, &changes.added).await?;
        let origin = |((position, received), row)| RowOrigin { position, received, row };
        let origins: Vec<RowOrigin> = changes.from.iter().copied().zip(numbers).map(origin).collect();
        row_origins::add(session, &of, origins).await?;
    }
    if !changes.numbers.is_empty() {
        session.restore_numbered(&of.table, &changes.numbers, &changes.restored).await?;
    }
    if !changes.removed.is_empty() {
        delete(session, &of, &RowsToDelete::Positions(changes.removed.clone())).await?;
    }
    Ok(())
}

/// Deletes rows and the records of their origins. Returns how many origins were recorded.
pub async fn delete(
    session: &mut impl Session,
    of: &RowsOf,
    to_delete: &RowsToDelete,
) -> Result<usize, StoreError> {
    match to_delete {
        RowsToDelete::Positions(positions) => row_origins::forget_positions(session, of, positions).await,
        RowsToDelete::Below { position, rows_max } => {
            row_origins::forget_below(session, of, *position, *rows_max).await
        }
    }
}

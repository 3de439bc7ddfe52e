//! Tables of a row an event on a database server, which gives the rows their numbers: so it goes on doing for
//! whoever else writes into the table.

use super::row_origins;
use super::session::Session;
use crate::store::StoreError;
use crate::store::numbered_rows::{RowChanges, RowsOf, RowsToDelete};
use crate::store::plan::Claim;
use crate::store::row_origins::RowOrigin;

pub async fn change(session: &mut Session, claim: &Claim, changes: &RowChanges) -> Result<(), StoreError> {
    let of = RowsOf { view: claim.view.clone(), log: claim.log, table: changes.table.clone() };
    if !changes.from.is_empty() {
        let numbers = session.number(&of.table, &changes.added).await?;
        let place = |((position, received), row)| RowOrigin { position, received, row };
        let places: Vec<RowOrigin> = changes.from.iter().copied().zip(numbers).map(place).collect();
        row_origins::add(session, &of, places).await?;
    }
    if !changes.numbers.is_empty() {
        session.mend(&of.table, &changes.numbers, &changes.restored).await?;
    }
    if !changes.removed.is_empty() {
        delete(session, &of, &RowsToDelete::Positions(changes.removed.clone())).await?;
    }
    Ok(())
}

/// Deletes rows and what is noted of them; how many were noted.
pub async fn delete(
    session: &mut Session,
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

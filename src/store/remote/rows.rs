//! Tables of a row an event on a database server, which gives the rows their numbers: so it goes on doing for
//! whoever else writes into the table.

use super::notes;
use super::session::Session;
use crate::store::StoreError;
use crate::store::places::Place;
use crate::store::plan::Claim;
use crate::store::rows::{Doomed, RowChanges, RowsOf};

pub async fn change(session: &mut Session, claim: &Claim, changes: &RowChanges) -> Result<(), StoreError> {
    let of = RowsOf { view: claim.view.clone(), log: claim.log, table: changes.table.clone() };
    if !changes.from.is_empty() {
        let numbers = session.number(&of.table, &changes.added).await?;
        let place = |((position, received), row)| Place { position, received, row };
        let places: Vec<Place> = changes.from.iter().copied().zip(numbers).map(place).collect();
        notes::add(session, &of, places).await?;
    }
    if !changes.numbers.is_empty() {
        session.mend(&of.table, &changes.numbers, &changes.restored).await?;
    }
    if !changes.removed.is_empty() {
        delete(session, &of, &Doomed::Positions(changes.removed.clone())).await?;
    }
    Ok(())
}

/// Deletes rows and what is noted of them; how many were noted.
pub async fn delete(session: &mut Session, of: &RowsOf, doomed: &Doomed) -> Result<usize, StoreError> {
    match doomed {
        Doomed::Positions(positions) => notes::forget_positions(session, of, positions).await,
        Doomed::Below { position, rows_max } => notes::forget_below(session, of, *position, *rows_max).await,
    }
}

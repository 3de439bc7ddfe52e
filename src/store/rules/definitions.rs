//! Records the definition of a view, in the transaction that begins the view or changes its definition.

use event::Millis;

use crate::store::StoreError;
use crate::store::cell::Cell;
use crate::store::definitions::{DefinitionChange, DefinitionReason};
use crate::store::plan::Claim;
use crate::store::session::Session;

/// Carries out the change of a plan whose claim has succeeded.
pub async fn change(
    session: &mut impl Session,
    claim: &Claim,
    change: &DefinitionChange,
) -> Result<(), StoreError> {
    let key = || -> Vec<Cell> { vec![claim.view.as_str().into(), claim.log.into()] };
    let in_force = "UPDATE millrace_positions SET definition = ? WHERE view = ? AND log_id = ? AND part = 0";
    let mut parameters: Vec<Cell> = vec![change.in_force().into()];
    parameters.extend(key());
    session.change(in_force, &parameters).await?;
    let (delete, parameters) = match change.reason {
        // A definition that applied to no event leaves no trace.
        DefinitionReason::Accepted => {
            let mut parameters = key();
            parameters.push(change.from.into());
            (" AND from_position >= ?", parameters)
        }
        DefinitionReason::RebuildBegins | DefinitionReason::RebuildEnds => ("", key()),
    };
    let sql = format!("DELETE FROM millrace_definitions WHERE view = ? AND log_id = ? AND part = 0{delete}");
    session.change(&sql, &parameters).await?;
    // A definition that was prepared for a deploy that never came must not apply by surprise later.
    let prepared = "DELETE FROM millrace_prepared WHERE view = ? AND log_id = ? AND part = 0";
    session.change(prepared, &key()).await?;
    let insert = "INSERT INTO millrace_definitions (view, log_id, part, from_position, hash, definition, since) VALUES (?, ?, 0, ?, ?, ?, ?)";
    let mut row = key();
    let definition = &change.definition;
    row.extend([
        change.from.into(),
        definition.hash.into(),
        definition.text.as_str().into(),
        Millis::now().into(),
    ]);
    session.change(insert, &row).await.map(drop)
}

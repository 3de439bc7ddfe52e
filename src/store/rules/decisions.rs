//! Decisions of a person about notifications that could not be sent: the dead letter, its delivery and what replaces it
//! change together.

use super::deliveries::change_state;
use super::notifications;
use crate::store::delivery::{DeliveryDecision, DeliveryState};
use crate::store::session::Session;
use crate::store::stored_row::decoded;
use crate::store::{DeadLetterStatus, StoreError};

/// Carries a decision out. Returns `false`, and changes nothing, if somebody else has decided meanwhile, or if nothing is
/// left to send.
pub async fn decide(session: &mut impl Session, decision: &DeliveryDecision) -> Result<bool, StoreError> {
    let DeliveryDecision { letter, key, to, note, table, replacement } = decision;
    let sql = format!("SELECT status FROM millrace_dead_letters WHERE id = ?{}", session.lock_rows());
    let Some(row) = session.rows(&sql, &[(*letter).into()]).await?.into_iter().next() else {
        return Ok(false);
    };
    let status: DeadLetterStatus = decoded("millrace_dead_letters", row)?;
    if status != DeadLetterStatus::Open {
        return Ok(false);
    }
    let changed = change_state(session, key, DeliveryState::Dead, *to, table.clone()).await?;
    let status = match to {
        DeliveryState::Waiting if changed => DeadLetterStatus::Retrying,
        DeliveryState::Dropped => DeadLetterStatus::Dropped,
        DeliveryState::Waiting | DeliveryState::Sent | DeliveryState::Dead => return Ok(false),
    };
    let now = session.now().await?;
    let sql =
        "UPDATE millrace_dead_letters SET status = ?, note = coalesce(?, note), updated = ? WHERE id = ?";
    let note = note.as_deref().map_or(crate::store::Cell::Null, Into::into);
    session.change(sql, &[status.as_str().into(), note, now.into(), (*letter).into()]).await?;
    if let Some((log, changes)) = replacement {
        notifications::change_all(session, &key.view, *log, changes).await?;
    }
    failpoint::hit("delivery.deciding");
    Ok(true)
}

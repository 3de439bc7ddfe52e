//! Records what became of attempts at deliveries, and keeps the status of their notifications.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use event::limits::ATTEMPTS_KEPT_MAX;
use event::{EventId, LogId, Millis};

use super::dead_letters;
use super::id_lists::{by_view_and_destination, marks, padded};
use crate::store::cell::Cell;
use crate::store::dead_letter_change::NewDeadLetter;
use crate::store::delivery::{AfterAttempt, AttemptRecord, DeliveryKey, DeliveryState, LeaseId};
use crate::store::millrace_tables::attempts_table;
use crate::store::session::Session;
use crate::store::stored_row::decoded;
use crate::store::tables::{Table, quote};
use crate::store::{DeadLetterStatus, NotificationStatus, StoreError};

pub const TABLE: &str = "millrace_deliveries";

/// Records attempts, and returns the deliveries that changed. `table_of` returns the table of a view.
pub async fn record(
    session: &mut impl Session,
    records: &[AttemptRecord],
    table_of: &(dyn Fn(&str) -> Option<Arc<Table>> + Send + Sync),
) -> Result<Vec<DeliveryKey>, StoreError> {
    let now = session.now().await?;
    // Notifications first: another transaction may record an attempt at another destination of the same notification.
    lock_notifications(session, records, table_of).await?;
    let mut attempts = Vec::new();
    let mut changed = Vec::new();
    let of: HashMap<&DeliveryKey, &AttemptRecord> =
        records.iter().map(|record| (&record.key, record)).collect();
    for ((view, destination), ids) in by_view_and_destination(of.keys().copied()) {
        let sql = format!(
            "SELECT notification, state, lease FROM millrace_deliveries WHERE view = ? AND destination = ? AND notification IN ({}){}",
            marks(ids.len()),
            session.lock_rows()
        );
        let mut parameters: Vec<Cell> = vec![view.as_str().into(), destination.as_str().into()];
        parameters.extend(padded(&ids));
        let mut sent: Vec<&str> = Vec::new();
        for row in session.rows(&sql, &parameters).await? {
            let (notification, state, lease): (String, DeliveryState, Option<LeaseId>) = decoded(TABLE, row)?;
            let key = DeliveryKey { view: view.clone(), notification, destination: destination.clone() };
            // Another node may have leased it meanwhile, or the attempt is recorded already.
            let is_ours = |record: &&&AttemptRecord| Some(record.lease) == lease;
            let Some(record) = of.get(&key).filter(is_ours) else { continue };
            if state != DeliveryState::Waiting {
                continue;
            }
            changed.push(key);
            match record.next {
                AfterAttempt::Sent => sent.push(&record.key.notification),
                next => after_failure(session, record, next, now).await?,
            }
            attempts.extend(attempt_row(record));
        }
        if !sent.is_empty() {
            end_sent(session, &view, &destination, &sent, now).await?;
        }
    }
    session.insert_new(&attempts_table(), &attempts).await?;
    for record in records.iter().filter(|record| record.attempt > ATTEMPTS_KEPT_MAX) {
        let sql = "DELETE FROM millrace_attempts WHERE notification = ? AND view = ? AND destination = ? AND attempt <= ?";
        let mut parameters = Vec::from(record.key.cells());
        parameters.push(Cell::Integer(record.attempt - ATTEMPTS_KEPT_MAX));
        session.change(sql, &parameters).await?;
    }
    let (made, not_made): (Vec<_>, Vec<_>) =
        changed.iter().cloned().partition(|key| of[key].next != AfterAttempt::NotMade);
    summarise(session, &made, table_of, now, true).await?;
    summarise(session, &not_made, table_of, now, false).await?;
    failpoint::hit("delivery.recording");
    Ok(changed)
}

fn attempt_row(record: &AttemptRecord) -> Vec<Cell> {
    let outcome = match record.next {
        AfterAttempt::NotMade => return Vec::new(),
        AfterAttempt::Sent => "sent",
        AfterAttempt::Retry { .. } | AfterAttempt::Resumed | AfterAttempt::Dead => "failed",
    };
    let mut row = Vec::from(record.key.cells());
    row.extend([
        Cell::Integer(record.attempt),
        record.begun.into(),
        Cell::Integer(record.duration_millis),
        outcome.into(),
        record.status.map_or(Cell::Null, |status| Cell::Integer(status.into())),
        record.answer.as_str().into(),
        record.error.as_deref().map_or(Cell::Null, Cell::from),
    ]);
    row
}

async fn lock_notifications(
    session: &mut impl Session,
    records: &[AttemptRecord],
    table_of: &(dyn Fn(&str) -> Option<Arc<Table>> + Send + Sync),
) -> Result<(), StoreError> {
    let lock = session.lock_rows();
    if lock.is_empty() {
        return Ok(());
    }
    let mut views: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for record in records {
        views.entry(&record.key.view).or_default().push(record.key.notification.clone());
    }
    for (view, mut ids) in views {
        let Some(table) = table_of(view) else { continue };
        ids.sort_unstable();
        ids.dedup();
        let sql = format!(
            "SELECT id FROM {} WHERE id IN ({}) ORDER BY id{lock}",
            quote(&table.name),
            marks(ids.len())
        );
        session.rows(&sql, &padded(&ids).collect::<Vec<_>>()).await?;
    }
    Ok(())
}

async fn end_sent(
    session: &mut impl Session,
    view: &str,
    destination: &str,
    ids: &[&str],
    now: Millis,
) -> Result<(), StoreError> {
    let list = marks(ids.len());
    let key = |parameters: &mut Vec<Cell>| {
        parameters.extend([view.into(), destination.into()]);
        parameters.extend(padded(ids));
    };
    let sql = format!(
        "UPDATE millrace_deliveries SET state = 1, lease = NULL, owner = NULL, updated = ? WHERE view = ? AND destination = ? AND notification IN ({list})"
    );
    let mut parameters: Vec<Cell> = vec![now.into()];
    key(&mut parameters);
    session.change(&sql, &parameters).await?;
    let sql = format!(
        "DELETE FROM millrace_delivery_contents WHERE view = ? AND destination = ? AND notification IN ({list})"
    );
    let mut parameters = Vec::new();
    key(&mut parameters);
    session.change(&sql, &parameters).await?;
    // Notifications that a person sent again have a dead letter.
    let letters: Vec<String> = ids.iter().map(|id| letter_id(view, destination, id).to_string()).collect();
    let sql = format!(
        "UPDATE millrace_dead_letters SET status = ?, updated = ? WHERE status = ? AND id IN ({list})"
    );
    let retrying = DeadLetterStatus::Retrying.as_str().into();
    let mut parameters = vec![DeadLetterStatus::Sent.as_str().into(), now.into(), retrying];
    parameters.extend(padded(&letters));
    session.change(&sql, &parameters).await.map(drop)
}

async fn after_failure(
    session: &mut impl Session,
    record: &AttemptRecord,
    next: AfterAttempt,
    now: Millis,
) -> Result<(), StoreError> {
    let (sql, first) = match next {
        AfterAttempt::Sent => return Ok(()),
        AfterAttempt::Dead => {
            let reason = record.error.as_deref().unwrap_or("the attempt failed");
            return make_dead(session, &record.key, reason, now).await;
        }
        // With a known outcome, no attempt counts as cut off any more. MySQL assigns from left to right.
        AfterAttempt::Retry { millis } => (
            "UPDATE millrace_deliveries SET due = ?, begun = failed + 1, failed = failed + 1, lease = NULL, owner = NULL, updated = ? \
             WHERE notification = ? AND view = ? AND destination = ?",
            Millis(now.0 + millis),
        ),
        AfterAttempt::Resumed => (
            "UPDATE millrace_deliveries SET due = ?, begun = begun - 1, lease = NULL, owner = NULL, updated = ? \
             WHERE notification = ? AND view = ? AND destination = ?",
            now,
        ),
        AfterAttempt::NotMade => (
            "UPDATE millrace_deliveries SET due = ?, begun = begun - 1, attempts = attempts - 1, lease = NULL, owner = NULL, updated = ? \
             WHERE notification = ? AND view = ? AND destination = ?",
            now,
        ),
    };
    let mut parameters: Vec<Cell> = vec![first.into(), now.into()];
    parameters.extend(record.key.cells());
    session.change(sql, &parameters).await.map(drop)
}

/// Returns the id of the dead letter of a delivery.
fn letter_id(view: &str, destination: &str, notification: &str) -> EventId {
    EventId::derived("dead-delivery", view, &format!("{destination} {notification}"))
}

/// Ends a delivery, with a dead letter that is new or that waits for a decision again.
async fn make_dead(
    session: &mut impl Session,
    key: &DeliveryKey,
    reason: &str,
    now: Millis,
) -> Result<(), StoreError> {
    let sql = "UPDATE millrace_deliveries SET state = 2, failed = failed + 1, lease = NULL, owner = NULL, updated = ? \
               WHERE notification = ? AND view = ? AND destination = ?";
    let mut parameters: Vec<Cell> = vec![now.into()];
    parameters.extend(key.cells());
    session.change(sql, &parameters).await?;
    let id = letter_id(&key.view, &key.destination, &key.notification);
    let sql = "UPDATE millrace_dead_letters SET status = ?, reason = ?, attempts = attempts + 1, updated = ? WHERE id = ?";
    let open = DeadLetterStatus::Open.as_str();
    if session.change(sql, &[open.into(), reason.into(), now.into(), id.into()]).await? > 0 {
        return Ok(());
    }
    let sql = "SELECT log_id, position FROM millrace_deliveries WHERE notification = ? AND view = ? AND destination = ?";
    let Some(row) = session.rows(sql, &key.cells()).await?.into_iter().next() else { return Ok(()) };
    let (log, position): (LogId, u64) = decoded(TABLE, row)?;
    let sql = "SELECT content FROM millrace_delivery_contents WHERE notification = ? AND view = ? AND destination = ?";
    let content = session.rows(sql, &key.cells()).await?.into_iter().next();
    let content = content.map(|row| decoded("millrace_delivery_contents", row)).transpose()?;
    let letter = NewDeadLetter {
        id,
        view: key.view.clone(),
        position,
        event_id: EventId::at(log, position),
        stream: String::new(),
        reason: reason.to_owned(),
        event: content.unwrap_or_default(),
        at: now,
        delivery: Some((key.notification.clone(), key.destination.clone())),
    };
    dead_letters::new(session, log, &[&letter]).await
}

/// Changes the state of one delivery, if it is `from`. Deliveries that wait again have all their retries.
pub async fn change_state(
    session: &mut impl Session,
    key: &DeliveryKey,
    from: DeliveryState,
    to: DeliveryState,
    table: Option<Arc<Table>>,
) -> Result<bool, StoreError> {
    let now = session.now().await?;
    if let Some(table) = &table {
        let sql = format!("SELECT id FROM {} WHERE id = ?{}", quote(&table.name), session.lock_rows());
        session.rows(&sql, &[key.notification.as_str().into()]).await?;
    }
    let sql = "UPDATE millrace_deliveries SET state = ?, due = ?, failed = 0, begun = 0, updated = ? \
               WHERE notification = ? AND view = ? AND destination = ? AND state = ?";
    let mut parameters: Vec<Cell> = vec![to.into(), now.into(), now.into()];
    parameters.extend(key.cells());
    parameters.push(from.into());
    if session.change(sql, &parameters).await? == 0 {
        return Ok(false);
    }
    if to == DeliveryState::Dropped {
        let sql =
            "DELETE FROM millrace_delivery_contents WHERE notification = ? AND view = ? AND destination = ?";
        session.change(sql, &key.cells()).await?;
    }
    let table_of = |_: &str| table.clone();
    summarise(session, std::slice::from_ref(key), &table_of, now, false).await?;
    Ok(true)
}

/// Writes the status of notifications, which follows from all their deliveries. `attempted` says whether an attempt was made
/// now.
async fn summarise(
    session: &mut impl Session,
    changed: &[DeliveryKey],
    table_of: &(dyn Fn(&str) -> Option<Arc<Table>> + Send + Sync),
    now: Millis,
    attempted: bool,
) -> Result<(), StoreError> {
    let mut views: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for key in changed {
        views.entry(&key.view).or_default().push(&key.notification);
    }
    for (view, mut ids) in views {
        let Some(table) = table_of(view) else { continue };
        ids.sort_unstable();
        ids.dedup();
        let sql = format!(
            "SELECT notification, state, failed, attempts, due FROM millrace_deliveries WHERE view = ? AND notification IN ({})",
            marks(ids.len())
        );
        let mut parameters: Vec<Cell> = vec![view.into()];
        parameters.extend(padded(&ids));
        let mut deliveries: BTreeMap<String, Vec<(DeliveryState, i64, i64, Millis)>> = BTreeMap::new();
        for row in session.rows(&sql, &parameters).await? {
            let (id, state, failed, attempts, due): (String, _, _, _, _) = decoded(TABLE, row)?;
            deliveries.entry(id).or_default().push((state, failed, attempts, due));
        }
        // Most notifications of a batch get the same values, so one statement can write them.
        let mut alike: BTreeMap<(&str, i64, Option<i64>), Vec<String>> = BTreeMap::new();
        for (id, of) in deliveries {
            let status = NotificationStatus::of(of.iter().map(|(state, failed, ..)| (*state, *failed)));
            let attempts = of.iter().map(|(_, _, attempts, _)| *attempts).max().unwrap_or(0);
            let waiting = of.iter().filter(|(state, ..)| *state == DeliveryState::Waiting);
            let next = waiting.map(|(.., due)| due.0).min();
            alike.entry((status.as_str(), attempts, next)).or_default().push(id);
        }
        for ((status, attempts, next), ids) in alike {
            let sql = format!(
                "UPDATE {} SET status = ?, attempt_count = ?, updated_at = ?, next_attempt_at = ?{} WHERE id IN ({})",
                quote(&table.name),
                if attempted { ", last_attempt_timestamp = ?" } else { "" },
                marks(ids.len())
            );
            let next = next.map_or(Cell::Null, |next| Cell::Time(Millis(next)));
            let mut parameters: Vec<Cell> =
                vec![status.into(), Cell::Integer(attempts), Cell::Time(now), next];
            parameters.extend(attempted.then_some(Cell::Time(now)));
            parameters.extend(padded(&ids));
            session.change(&sql, &parameters).await?;
        }
    }
    Ok(())
}

//! Queues notifications with their deliveries, and cancels those of undone events, as parts of a plan.

use std::collections::HashSet;

use event::{LogId, Millis};

use crate::store::cell::Cell;
use crate::store::delivery::{
    NotificationChange, NotificationChanges, NotificationTables, QueuedNotification,
};
use crate::store::millrace_tables::{contents_table, deliveries_table};
use crate::store::session::Session;
use crate::store::{NotificationStatus, StoreError};

pub async fn change_all(
    session: &mut impl Session,
    view: &str,
    log: LogId,
    changes: &NotificationChanges,
) -> Result<(), StoreError> {
    let NotificationChanges { tables, changes } = changes;
    let now = session.now().await?;
    let mut together: Vec<&QueuedNotification> = Vec::new();
    for change in changes {
        match change {
            NotificationChange::Queue(notification) => together.push(notification),
            NotificationChange::Cancel { id } => {
                queue(session, view, log, tables, &std::mem::take(&mut together), now).await?;
                cancel(session, view, tables, id).await?;
            }
        }
    }
    queue(session, view, log, tables, &together, now).await
}

/// Queues notifications. One that exists was queued before, or the replaced service handles it, so it gets no deliveries.
async fn queue(
    session: &mut impl Session,
    view: &str,
    log: LogId,
    tables: &NotificationTables,
    notifications: &[&QueuedNotification],
    now: Millis,
) -> Result<(), StoreError> {
    if notifications.is_empty() {
        return Ok(());
    }
    let ids: Vec<Cell> = notifications.iter().map(|one| one.id.as_str().into()).collect();
    let mut known = HashSet::new();
    for row in session.rows_by_key(&tables.queued, &ids).await? {
        if let Some(Cell::Text(id)) = row.into_iter().next() {
            known.insert(id);
        }
    }
    let (mut rows, mut deliveries, mut contents) = (Vec::new(), Vec::new(), Vec::new());
    for notification in notifications {
        if !known.insert(notification.id.clone()) {
            continue;
        }
        rows.extend(notification.row.iter().cloned());
        for delivery in &notification.deliveries {
            let key = || -> [Cell; 3] {
                [notification.id.as_str().into(), view.into(), delivery.destination.as_str().into()]
            };
            deliveries.extend(key());
            deliveries.extend([
                log.into(),
                Cell::Integer(0),
                notification.position.into(),
                delivery.lane.as_str().into(),
                Cell::Integer(0),
                now.into(),
                Cell::Null,
                Cell::Null,
                Cell::Integer(0),
                Cell::Integer(0),
                Cell::Integer(0),
                now.into(),
                now.into(),
            ]);
            contents.extend(key());
            contents.push(delivery.content.as_str().into());
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    session.insert_new(&tables.whole, &rows).await?;
    session.insert_new(&deliveries_table(), &deliveries).await?;
    session.insert_new(&contents_table(), &contents).await
}

/// Removes a notification and its deliveries, unless an attempt has begun.
async fn cancel(
    session: &mut impl Session,
    view: &str,
    tables: &NotificationTables,
    id: &str,
) -> Result<(), StoreError> {
    let key: [Cell; 2] = [id.into(), view.into()];
    // With the rows locked, no attempt begins.
    let sql = format!(
        "SELECT attempts FROM millrace_deliveries WHERE notification = ? AND view = ? AND attempts > 0{}",
        session.lock_rows()
    );
    let lock = format!(
        "SELECT notification FROM millrace_deliveries WHERE notification = ? AND view = ?{}",
        session.lock_rows()
    );
    if !session.lock_rows().is_empty() {
        session.rows(&lock, &key).await?;
    }
    if !session.rows(&sql, &key).await?.is_empty() {
        return Ok(());
    }
    let status = Cell::from(NotificationStatus::Queued.as_str());
    // Somebody else may have changed the status, such as the replaced service.
    let rows = session.rows_by_key(&tables.queued, &[id.into()]).await?;
    if rows.iter().any(|row| row.last() != Some(&status)) {
        return Ok(());
    }
    session.remove(&tables.queued, &[id.into(), status]).await?;
    for table in ["millrace_delivery_contents", "millrace_deliveries"] {
        session.change(&format!("DELETE FROM {table} WHERE notification = ? AND view = ?"), &key).await?;
    }
    Ok(())
}

//! Leases deliveries that are due, so that nobody else attempts them for a time.

use std::collections::BTreeMap;

use event::Millis;
use event::limits::ATTEMPTS_CUT_OFF_ALONE_MIN;

use super::deliveries::TABLE;
use super::id_lists::{by_view_and_destination, marks, padded};
use crate::store::StoreError;
use crate::store::cell::Cell;
use crate::store::delivery::{DeliveryKey, LeaseId, LeaseRequest, Leased};
use crate::store::millrace_tables::attempts_table;
use crate::store::session::Session;
use crate::store::stored_row::decoded;

/// Leases deliveries that are due, the longest waiting first. One whose attempts were cut off several times is leased alone:
/// it may be what ends the process, and the others are not to blame. The owner of a lease knows of it, so the end of the lease is for
/// others, unless the owner has ended it. An attempt that has no record was cut off: it is recorded
/// now.
pub async fn lease(session: &mut impl Session, request: &LeaseRequest) -> Result<Vec<Leased>, StoreError> {
    let now = session.now().await?;
    let sql = format!(
        "SELECT view, notification, destination, failed, begun, attempts, created, lease, updated FROM millrace_deliveries \
         WHERE lane = ? AND state = 0 AND due <= ? AND (owner IS NULL OR owner <> ? OR due = 0) ORDER BY due LIMIT {}{}",
        request.deliveries_max,
        session.lock_free_rows()
    );
    let mut leased: BTreeMap<DeliveryKey, Leased> = BTreeMap::new();
    let mut cut_off = Vec::new();
    for row in session.rows(&sql, &[request.lane.as_str().into(), now.into(), request.owner.into()]).await? {
        let (view, notification, destination, failed, begun, attempts, created, lease, updated): (
            _,
            _,
            _,
            i64,
            i64,
            i64,
            _,
            Option<LeaseId>,
            Millis,
        ) = decoded(TABLE, row)?;
        let is_suspect = begun - failed >= ATTEMPTS_CUT_OFF_ALONE_MIN;
        if is_suspect && !leased.is_empty() {
            break;
        }
        let key = DeliveryKey { view, notification, destination };
        if lease.is_some() {
            cut_off.push((key.clone(), attempts, updated));
        }
        let one = Leased {
            key: key.clone(),
            lease: request.lease,
            attempt: attempts + 1,
            failed,
            created,
            content: String::new(),
            cut_off: begun - failed,
        };
        leased.insert(key, one);
        if is_suspect {
            break;
        }
    }
    record_cut_off(session, &cut_off).await?;
    for ((view, destination), ids) in by_view_and_destination(leased.keys()) {
        mark_leased(session, request, now, (&view, &destination), &ids).await?;
        for (notification, content) in contents(session, (&view, &destination), &ids).await? {
            let key = DeliveryKey { view: view.clone(), notification, destination: destination.clone() };
            if let Some(one) = leased.get_mut(&key) {
                one.content = content;
            }
        }
    }
    failpoint::hit("delivery.leasing");
    Ok(leased.into_values().collect())
}

/// Records attempts of which nothing is known, because the process ended. They spend no retry.
async fn record_cut_off(
    session: &mut impl Session,
    cut_off: &[(DeliveryKey, i64, Millis)],
) -> Result<(), StoreError> {
    let mut attempts = Vec::new();
    for (key, attempt, begun) in cut_off {
        let error = "no outcome was recorded: the process ended, or the answer of the database was lost";
        attempts.extend(key.cells());
        attempts.extend([
            Cell::Integer(*attempt),
            (*begun).into(),
            Cell::Integer(0),
            "cut-off".into(),
            Cell::Null,
            "".into(),
            error.into(),
        ]);
    }
    if attempts.is_empty() { Ok(()) } else { session.insert_new(&attempts_table(), &attempts).await }
}

async fn mark_leased(
    session: &mut impl Session,
    request: &LeaseRequest,
    now: Millis,
    (view, destination): (&str, &str),
    ids: &[String],
) -> Result<(), StoreError> {
    let sql = format!(
        "UPDATE millrace_deliveries SET due = ?, lease = ?, owner = ?, begun = begun + 1, attempts = attempts + 1, updated = ? \
         WHERE view = ? AND destination = ? AND notification IN ({})",
        marks(ids.len())
    );
    let until = Millis(now.0 + request.millis);
    let mut parameters: Vec<Cell> = vec![
        until.into(),
        request.lease.into(),
        request.owner.into(),
        now.into(),
        view.into(),
        destination.into(),
    ];
    parameters.extend(padded(ids));
    session.change(&sql, &parameters).await.map(drop)
}

async fn contents(
    session: &mut impl Session,
    (view, destination): (&str, &str),
    ids: &[String],
) -> Result<Vec<(String, String)>, StoreError> {
    let sql = format!(
        "SELECT notification, content FROM millrace_delivery_contents WHERE view = ? AND destination = ? AND notification IN ({})",
        marks(ids.len())
    );
    let mut parameters: Vec<Cell> = vec![view.into(), destination.into()];
    parameters.extend(padded(ids));
    let rows = session.rows(&sql, &parameters).await?;
    rows.into_iter().map(|row| decoded("millrace_delivery_contents", row)).collect()
}

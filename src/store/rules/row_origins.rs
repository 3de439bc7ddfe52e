//! Reads and writes `millrace_rows`: which event made which row.

use event::limits::BATCH_EVENTS_MAX;

use crate::store::StoreError;
use crate::store::cell::Cell;
use crate::store::millrace_tables::rows_table;
use crate::store::numbered_rows::RowsOf;
use crate::store::plan::Claim;
use crate::store::row_origin_entry::{self, COLUMNS, RowOriginEntry};
use crate::store::row_origins::RowOrigin;
use crate::store::session::Session;

/// Records `origins`, which are ordered by position. If they follow all recorded positions, as they usually do, they
/// become an entry of their own or are joined to the last entry while it is small. Otherwise they are merged into the
/// existing entries.
pub async fn add(
    session: &mut impl Session,
    of: &RowsOf,
    mut origins: Vec<RowOrigin>,
) -> Result<(), StoreError> {
    let (Some(first), Some(last)) = (origins.first().copied(), origins.last().copied()) else {
        return Ok(());
    };
    let mut before = last.position;
    while let Some(entry) = last_entry(session, of, before).await? {
        if entry.last_position < first.position {
            if before == last.position && entry.has_room_for(&origins) {
                drop_entry(session, of, &entry).await?;
                let mut joined = entry.origins()?;
                joined.append(&mut origins);
                origins = joined;
            }
            break;
        }
        drop_entry(session, of, &entry).await?;
        entry.merge_into(&mut origins)?;
        match entry.base.first_position.checked_sub(1) {
            Some(earlier) => before = earlier,
            None => break,
        }
    }
    for origins in origins.chunks(BATCH_EVENTS_MAX) {
        put_entry(session, of, origins).await?;
    }
    Ok(())
}

/// Deletes the rows of these events and their recorded origins. Returns how many rows there were.
pub async fn forget_positions(
    session: &mut impl Session,
    of: &RowsOf,
    positions: &[u64],
) -> Result<usize, StoreError> {
    let mut left = positions.to_vec();
    left.sort_unstable();
    let mut deleted = 0;
    // From the end, so that each entry is read once for all of its positions.
    while let Some(position) = left.last().copied() {
        let Some(entry) = last_entry(session, of, position).await? else { break };
        let within = left.partition_point(|position| *position < entry.base.first_position);
        let of_entry = left.split_off(within);
        if entry.last_position < of_entry[0] {
            continue;
        }
        let parts =
            entry.origins()?.into_iter().partition(|origin| of_entry.binary_search(&origin.position).is_ok());
        deleted += delete(session, of, &entry, parts).await?;
    }
    Ok(deleted)
}

/// Deletes the rows of events below `position` and their recorded origins, at most `rows_max` of them. Returns how
/// many rows there were.
pub async fn forget_below(
    session: &mut impl Session,
    of: &RowsOf,
    position: u64,
    rows_max: usize,
) -> Result<usize, StoreError> {
    let sql = format!("SELECT {COLUMNS} {OF} AND first_position < ? ORDER BY first_position LIMIT 1");
    let mut deleted = 0;
    while deleted < rows_max {
        let mut parameters = key(of);
        parameters.push(Cell::Integer(position as i64));
        let Some(row) = session.rows(&sql, &parameters).await?.into_iter().next() else { break };
        let entry = RowOriginEntry::read(row)?;
        let mut remaining = rows_max - deleted;
        let parts = entry.origins()?.into_iter().partition(|origin| {
            let is_deleted = origin.position < position && remaining > 0;
            remaining -= usize::from(is_deleted);
            is_deleted
        });
        let deleted_now = delete(session, of, &entry, parts).await?;
        if deleted_now == 0 {
            break;
        }
        deleted += deleted_now;
    }
    Ok(deleted)
}

async fn delete(
    session: &mut impl Session,
    of: &RowsOf,
    entry: &RowOriginEntry,
    (to_delete, kept): (Vec<RowOrigin>, Vec<RowOrigin>),
) -> Result<usize, StoreError> {
    if to_delete.is_empty() {
        return Ok(0);
    }
    let numbers: Vec<i64> = to_delete.iter().map(|origin| origin.row).collect();
    session.delete_numbers(&of.table, &numbers).await?;
    drop_entry(session, of, entry).await?;
    put_entry(session, of, &kept).await?;
    Ok(to_delete.len())
}

/// Deletes all recorded origins of a view that starts. It has made no rows yet, so they belong to an earlier view of
/// the same name.
pub async fn delete_all(session: &mut impl Session, claim: &Claim) -> Result<(), StoreError> {
    let sql = "DELETE FROM millrace_rows WHERE view = ? AND log_id = ? AND part = 0";
    let parameters = [Cell::Text(claim.view.clone()), Cell::Bytes(claim.log.0.to_vec())];
    session.change(sql, &parameters).await.map(drop)
}

const OF: &str = "FROM millrace_rows WHERE view = ? AND log_id = ? AND part = 0";

fn key(of: &RowsOf) -> Vec<Cell> {
    vec![Cell::Text(of.view.clone()), Cell::Bytes(of.log.0.to_vec())]
}

/// Returns the last entry that begins at or before `position`.
async fn last_entry(
    session: &mut impl Session,
    of: &RowsOf,
    position: u64,
) -> Result<Option<RowOriginEntry>, StoreError> {
    let sql = format!("SELECT {COLUMNS} {OF} AND first_position <= ? ORDER BY first_position DESC LIMIT 1");
    let mut parameters = key(of);
    parameters.push(Cell::Integer(position as i64));
    session.rows(&sql, &parameters).await?.into_iter().next().map(RowOriginEntry::read).transpose()
}

/// Deletes an entry as it was read. Fails if another transaction has changed it since, which the caller tries again:
/// retention and the view itself may run at the same time.
async fn drop_entry(
    session: &mut impl Session,
    of: &RowsOf,
    entry: &RowOriginEntry,
) -> Result<(), StoreError> {
    let sql = format!("DELETE {OF} AND first_position = ? AND places = ?");
    let mut parameters = key(of);
    parameters.push(Cell::Integer(entry.base.first_position as i64));
    parameters.push(Cell::Bytes(entry.bytes.clone()));
    match session.change(&sql, &parameters).await? {
        1 => Ok(()),
        _ => Err(StoreError::Transient("another transaction has changed the origins of rows".to_owned())),
    }
}

/// Writes an entry, or nothing if `origins` is empty.
async fn put_entry(session: &mut impl Session, of: &RowsOf, origins: &[RowOrigin]) -> Result<(), StoreError> {
    let Some((numbers, bytes)) = row_origin_entry::encode(origins) else { return Ok(()) };
    let mut row = key(of);
    row.push(Cell::Integer(0));
    row.extend(numbers.map(Cell::Integer));
    row.push(Cell::Bytes(bytes));
    session.put(&rows_table(), &row).await
}

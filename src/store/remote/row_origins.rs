//! What is noted in `millrace_rows`, on a database server: which event made which row.

use event::limits::BATCH_EVENTS_MAX;

use super::session::Session;
use crate::store::StoreError;
use crate::store::numbered_rows::RowsOf;
use crate::store::plan::Claim;
use crate::store::row_origin_entry::{self, COLUMNS, RowOriginEntry};
use crate::store::row_origins::RowOrigin;
use crate::store::tables::{Cell, rows_table};

/// Notes `places`, which are in the order of positions. Beyond all that is noted, as they are where a
/// view goes on, they are an entry of their own, or part of the last one while it is small; otherwise they go
/// among those that are there.
pub async fn add(session: &mut Session, of: &RowsOf, mut origins: Vec<RowOrigin>) -> Result<(), StoreError> {
    let (Some(first), Some(last)) = (origins.first().copied(), origins.last().copied()) else {
        return Ok(());
    };
    let mut before = last.position;
    while let Some(entry) = last_entry(session, of, before).await? {
        if entry.last_position < first.position {
            if before == last.position && entry.takes_in(&origins) {
                drop_entry(session, of, &entry).await?;
                let mut joined = entry.origins()?;
                joined.append(&mut origins);
                origins = joined;
            }
            break;
        }
        drop_entry(session, of, &entry).await?;
        entry.mixed(&mut origins)?;
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

/// Deletes the rows of these events, and forgets their places; how many they were.
pub async fn forget_positions(
    session: &mut Session,
    of: &RowsOf,
    positions: &[u64],
) -> Result<usize, StoreError> {
    let mut left = positions.to_vec();
    left.sort_unstable();
    let mut forgotten = 0;
    // From the end, so that an entry is opened once for all that go of it.
    while let Some(position) = left.last().copied() {
        let Some(entry) = last_entry(session, of, position).await? else { break };
        let within = left.partition_point(|position| *position < entry.base.first_position);
        let of_entry = left.split_off(within);
        if entry.last_position < of_entry[0] {
            continue;
        }
        let parted = entry.parted(|place| of_entry.binary_search(&place.position).is_ok())?;
        forgotten += delete(session, of, &entry, parted).await?;
    }
    Ok(forgotten)
}

/// The same for the events below a position, up to so many rows.
pub async fn forget_below(
    session: &mut Session,
    of: &RowsOf,
    position: u64,
    rows_max: usize,
) -> Result<usize, StoreError> {
    let sql = format!("SELECT {COLUMNS} {OF} AND first_position < ? ORDER BY first_position LIMIT 1");
    let mut forgotten = 0;
    while forgotten < rows_max {
        let mut parameters = key(of);
        parameters.push(Cell::Integer(position as i64));
        let Some(row) = session.rows(&sql, &parameters).await?.into_iter().next() else { break };
        let entry = RowOriginEntry::read(row)?;
        let mut room = rows_max - forgotten;
        let parted = entry.parted(|place| {
            let goes = place.position < position && room > 0;
            room -= usize::from(goes);
            goes
        })?;
        let gone = delete(session, of, &entry, parted).await?;
        if gone == 0 {
            break;
        }
        forgotten += gone;
    }
    Ok(forgotten)
}

async fn delete(
    session: &mut Session,
    of: &RowsOf,
    entry: &RowOriginEntry,
    (gone, kept): (Vec<RowOrigin>, Vec<RowOrigin>),
) -> Result<usize, StoreError> {
    if gone.is_empty() {
        return Ok(0);
    }
    let numbers: Vec<i64> = gone.iter().map(|place| place.row).collect();
    session.delete_numbers(&of.table, &numbers).await?;
    drop_entry(session, of, entry).await?;
    put_entry(session, of, &kept).await?;
    Ok(gone.len())
}

/// A view that begins has made no rows yet: what is noted is of one that began before, and is over.
pub async fn begin_anew(session: &mut Session, claim: &Claim) -> Result<(), StoreError> {
    let sql = "DELETE FROM millrace_rows WHERE view = ? AND log_id = ? AND part = 0";
    let parameters = [Cell::Text(claim.view.clone()), Cell::Bytes(claim.log.0.to_vec())];
    session.change(sql, &parameters).await.map(drop)
}

const OF: &str = "FROM millrace_rows WHERE view = ? AND log_id = ? AND part = 0";

fn key(of: &RowsOf) -> Vec<Cell> {
    vec![Cell::Text(of.view.clone()), Cell::Bytes(of.log.0.to_vec())]
}

/// The last entry that begins at or before `position`.
async fn last_entry(
    session: &mut Session,
    of: &RowsOf,
    position: u64,
) -> Result<Option<RowOriginEntry>, StoreError> {
    let sql = format!("SELECT {COLUMNS} {OF} AND first_position <= ? ORDER BY first_position DESC LIMIT 1");
    let mut parameters = key(of);
    parameters.push(Cell::Integer(position as i64));
    session.rows(&sql, &parameters).await?.into_iter().next().map(RowOriginEntry::read).transpose()
}

async fn drop_entry(session: &mut Session, of: &RowsOf, entry: &RowOriginEntry) -> Result<(), StoreError> {
    let sql = format!("DELETE {OF} AND first_position = ?");
    let mut parameters = key(of);
    parameters.push(Cell::Integer(entry.base.first_position as i64));
    session.change(&sql, &parameters).await.map(drop)
}

/// Nothing where there are no places.
async fn put_entry(session: &mut Session, of: &RowsOf, origins: &[RowOrigin]) -> Result<(), StoreError> {
    let Some((numbers, bytes)) = row_origin_entry::written(origins) else { return Ok(()) };
    let mut row = key(of);
    row.push(Cell::Integer(0));
    row.extend(numbers.map(Cell::Integer));
    row.push(Cell::Bytes(bytes));
    session.put(&rows_table(), &row).await
}

//! What is noted in `millrace_rows`, in SQLite: which event made which row.

use event::Millis;
use event::limits::BATCH_EVENTS_MAX;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::errors::classify;
use crate::store::StoreError;
use crate::store::numbered_rows::{RowsOf, RowsToDelete};
use crate::store::plan::Claim;
use crate::store::row_origin_entry::{self, COLUMNS, RowOriginEntry};
use crate::store::row_origins::{RowOrigin, RowOriginBase};

/// Notes `places`, which are in the order of positions. Beyond all that is noted, as they are where a
/// view goes on, they are an entry of their own, or part of the last one while it is small; otherwise they go
/// among those that are there.
pub fn add(connection: &Connection, of: &RowsOf, mut origins: Vec<RowOrigin>) -> Result<(), StoreError> {
    let (Some(first), Some(last)) = (origins.first().copied(), origins.last().copied()) else {
        return Ok(());
    };
    let mut before = last.position;
    while let Some(entry) = last_entry(connection, of, before)? {
        if entry.last_position < first.position {
            if before == last.position && entry.takes_in(&origins) {
                drop_entry(connection, of, &entry)?;
                let mut joined = entry.origins()?;
                joined.append(&mut origins);
                origins = joined;
            }
            break;
        }
        drop_entry(connection, of, &entry)?;
        entry.mixed(&mut origins)?;
        match entry.base.first_position.checked_sub(1) {
            Some(earlier) => before = earlier,
            None => break,
        }
    }
    for origins in origins.chunks(BATCH_EVENTS_MAX) {
        put_entry(connection, of, origins)?;
    }
    Ok(())
}

/// Forgets the places that are doomed, after `delete` has deleted the row of each; how many they were.
pub fn forget(
    connection: &Connection,
    of: &RowsOf,
    to_delete: &RowsToDelete,
    delete: impl FnMut(i64) -> Result<(), StoreError>,
) -> Result<usize, StoreError> {
    match to_delete {
        RowsToDelete::Positions(positions) => forget_positions(connection, of, positions, delete),
        RowsToDelete::Below { position, rows_max } => {
            forget_below(connection, of, *position, *rows_max, delete)
        }
    }
}

fn forget_positions(
    connection: &Connection,
    of: &RowsOf,
    positions: &[u64],
    mut delete: impl FnMut(i64) -> Result<(), StoreError>,
) -> Result<usize, StoreError> {
    let mut left = positions.to_vec();
    left.sort_unstable();
    let mut forgotten = 0;
    // From the end, so that an entry is opened once for all that go of it.
    while let Some(position) = left.last().copied() {
        let Some(entry) = last_entry(connection, of, position)? else { break };
        let within = left.partition_point(|position| *position < entry.base.first_position);
        let of_entry = left.split_off(within);
        if entry.last_position < of_entry[0] {
            continue;
        }
        let (gone, kept) = entry.parted(|place| of_entry.binary_search(&place.position).is_ok())?;
        gone.iter().try_for_each(|place| delete(place.row))?;
        forgotten += gone.len();
        if !gone.is_empty() {
            drop_entry(connection, of, &entry)?;
            put_entry(connection, of, &kept)?;
        }
    }
    Ok(forgotten)
}

fn forget_below(
    connection: &Connection,
    of: &RowsOf,
    position: u64,
    rows_max: usize,
    mut delete: impl FnMut(i64) -> Result<(), StoreError>,
) -> Result<usize, StoreError> {
    let sql = format!("SELECT {COLUMNS} {OF} AND first_position < ?3 ORDER BY first_position LIMIT 1");
    let mut statement = connection.prepare_cached(&sql).map_err(classify)?;
    let mut forgotten = 0;
    while forgotten < rows_max {
        let found = statement.query_row(params![of.view, of.log.0, position as i64], read);
        let Some(entry) = found.optional().map_err(classify)? else { break };
        let mut room = rows_max - forgotten;
        let goes = |place: &RowOrigin| {
            let goes = place.position < position && room > 0;
            room -= usize::from(goes);
            goes
        };
        let (gone, kept) = entry.parted(goes)?;
        gone.iter().try_for_each(|place| delete(place.row))?;
        forgotten += gone.len();
        drop_entry(connection, of, &entry)?;
        put_entry(connection, of, &kept)?;
    }
    Ok(forgotten)
}

/// A view that begins has made no rows yet: what is noted is of one that began before, and is over.
pub fn begin_anew(connection: &Connection, claim: &Claim) -> rusqlite::Result<()> {
    let sql = "DELETE FROM millrace_rows WHERE view = ?1 AND log_id = ?2 AND part = 0";
    connection.execute(sql, params![claim.view, claim.log.0]).map(drop)
}

const OF: &str = "FROM millrace_rows WHERE view = ?1 AND log_id = ?2 AND part = 0";

fn read(row: &Row<'_>) -> rusqlite::Result<RowOriginEntry> {
    let base = RowOriginBase {
        first_position: row.get::<_, i64>(0)? as u64,
        first_row: row.get(1)?,
        received_min: Millis(row.get(2)?),
    };
    Ok(RowOriginEntry { base, last_position: row.get::<_, i64>(3)? as u64, bytes: row.get(4)? })
}

/// The last entry that begins at or before `position`.
fn last_entry(
    connection: &Connection,
    of: &RowsOf,
    position: u64,
) -> Result<Option<RowOriginEntry>, StoreError> {
    let sql = format!("SELECT {COLUMNS} {OF} AND first_position <= ?3 ORDER BY first_position DESC LIMIT 1");
    let mut statement = connection.prepare_cached(&sql).map_err(classify)?;
    let found = statement.query_row(params![of.view, of.log.0, position as i64], read);
    found.optional().map_err(classify)
}

fn drop_entry(connection: &Connection, of: &RowsOf, entry: &RowOriginEntry) -> Result<(), StoreError> {
    let sql =
        "DELETE FROM millrace_rows WHERE view = ?1 AND log_id = ?2 AND part = 0 AND first_position = ?3";
    let mut statement = connection.prepare_cached(sql).map_err(classify)?;
    let key = params![of.view, of.log.0, entry.base.first_position as i64];
    statement.execute(key).map(drop).map_err(classify)
}

/// Nothing where there are no places.
fn put_entry(connection: &Connection, of: &RowsOf, origins: &[RowOrigin]) -> Result<(), StoreError> {
    let Some((numbers, bytes)) = row_origin_entry::written(origins) else { return Ok(()) };
    let [first, last, first_row, last_row, count, received_min, received_max] = numbers;
    let sql = "INSERT INTO millrace_rows (view, log_id, part, first_position, last_position, first_row, last_row, row_count, received_min, received_max, places)
               VALUES (?1, ?2, 0, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    let row = params![
        of.view,
        of.log.0,
        first,
        last,
        first_row,
        last_row,
        count,
        received_min,
        received_max,
        bytes
    ];
    connection.prepare_cached(sql).map_err(classify)?.execute(row).map(drop).map_err(classify)
}

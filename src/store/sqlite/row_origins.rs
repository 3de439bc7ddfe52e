//! Reads and writes `millrace_rows` in SQLite: the events that the rows of a table came from.

use event::Millis;
use event::limits::BATCH_EVENTS_MAX;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::errors::classify;
use crate::store::StoreError;
use crate::store::numbered_rows::{RowsOf, RowsToDelete};
use crate::store::plan::Claim;
use crate::store::row_origin_entry::{self, COLUMNS, RowOriginEntry};
use crate::store::row_origins::{RowOrigin, RowOriginBase};

/// Stores `origins`, which are ordered by position.
///
/// Usually a view goes on, and all positions are above the stored ones. The origins then become a new entry, or are
/// joined with the last entry if both are small. Otherwise they are merged into the existing entries.
pub fn add(connection: &Connection, of: &RowsOf, mut origins: Vec<RowOrigin>) -> Result<(), StoreError> {
    let (Some(first), Some(last)) = (origins.first().copied(), origins.last().copied()) else {
        return Ok(());
    };
    let mut before = last.position;
    while let Some(entry) = last_entry(connection, of, before)? {
        if entry.last_position < first.position {
            if before == last.position && entry.has_room_for(&origins) {
                drop_entry(connection, of, &entry)?;
                let mut joined = entry.origins()?;
                joined.append(&mut origins);
                origins = joined;
            }
            break;
        }
        drop_entry(connection, of, &entry)?;
        entry.merge_into(&mut origins)?;
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

/// Deletes the selected origins, after `delete` has deleted the row of each. Returns the number of origins.
pub fn remove(
    connection: &Connection,
    of: &RowsOf,
    to_delete: &RowsToDelete,
    delete: impl FnMut(i64) -> Result<(), StoreError>,
) -> Result<usize, StoreError> {
    match to_delete {
        RowsToDelete::Positions(positions) => remove_positions(connection, of, positions, delete),
        RowsToDelete::Below { position, rows_max } => {
            remove_below(connection, of, *position, *rows_max, delete)
        }
    }
}

fn remove_positions(
    connection: &Connection,
    of: &RowsOf,
    positions: &[u64],
    mut delete: impl FnMut(i64) -> Result<(), StoreError>,
) -> Result<usize, StoreError> {
    let mut remaining = positions.to_vec();
    remaining.sort_unstable();
    let mut removed = 0;
    // Starts at the end, so that each entry is read and written only once.
    while let Some(position) = remaining.last().copied() {
        let Some(entry) = last_entry(connection, of, position)? else { break };
        let within = remaining.partition_point(|position| *position < entry.base.first_position);
        let of_entry = remaining.split_off(within);
        if entry.last_position < of_entry[0] {
            continue;
        }
        let (gone, kept) = entry.partition(|origin| of_entry.binary_search(&origin.position).is_ok())?;
        gone.iter().try_for_each(|origin| delete(origin.row))?;
        removed += gone.len();
        if !gone.is_empty() {
            drop_entry(connection, of, &entry)?;
            put_entry(connection, of, &kept)?;
        }
    }
    Ok(removed)
}

fn remove_below(
    connection: &Connection,
    of: &RowsOf,
    position: u64,
    rows_max: usize,
    mut delete: impl FnMut(i64) -> Result<(), StoreError>,
) -> Result<usize, StoreError> {
    let sql = format!("SELECT {COLUMNS} {OF} AND first_position < ?3 ORDER BY first_position LIMIT 1");
    let mut statement = connection.prepare_cached(&sql).map_err(classify)?;
    let mut removed = 0;
    while removed < rows_max {
        let found = statement.query_row(params![of.view, of.log.0, position as i64], read);
        let Some(entry) = found.optional().map_err(classify)? else { break };
        let mut room = rows_max - removed;
        let goes = |origin: &RowOrigin| {
            let goes = origin.position < position && room > 0;
            room -= usize::from(goes);
            goes
        };
        let (gone, kept) = entry.partition(goes)?;
        gone.iter().try_for_each(|origin| delete(origin.row))?;
        removed += gone.len();
        drop_entry(connection, of, &entry)?;
        put_entry(connection, of, &kept)?;
    }
    Ok(removed)
}

/// Deletes all entries of a view that begins. Such entries belong to an earlier view of the same name.
pub fn delete_all(connection: &Connection, claim: &Claim) -> rusqlite::Result<()> {
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

/// Returns the last entry whose first position is at or before `position`.
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

/// Writes an entry. Does nothing if `origins` is empty.
fn put_entry(connection: &Connection, of: &RowsOf, origins: &[RowOrigin]) -> Result<(), StoreError> {
    let Some((numbers, bytes)) = row_origin_entry::encode(origins) else { return Ok(()) };
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

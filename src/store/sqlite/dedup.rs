//! Applies the dedup rule inside the transaction: finds stored rows with the same identity, and records repeats.

use event::limits::CHUNK_LINES_MAX;
use event::{BodyHash, LogId, Millis};
use rusqlite::{Connection, params};

use super::dead_letters;
use crate::store::plan::{DedupEntry, DedupRow, Skipped};

/// Looks up one identity, stores it if it is new, and records the positions that views have to skip.
pub fn record(connection: &Connection, log: LogId, seen: &DedupEntry) -> rusqlite::Result<Vec<Skipped>> {
    let (identity, first, count) = seen.key.parts();
    let known = overlapping(connection, identity, first, count, seen.since)?;
    let verdict = seen.verdict(&known);
    if verdict.note {
        let sql = "INSERT OR REPLACE INTO millrace_seen (identity, first_line, line_count, log_id, position, body_hash, received, kept)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let position = seen.events.first().map_or(0, |(position, _)| *position);
        connection.prepare_cached(sql)?.execute(params![
            identity,
            first as i64,
            count as i64,
            log.0,
            position as i64,
            seen.hash.0,
            seen.received.0,
            seen.kept
        ])?;
    }
    let mut skipped = Vec::with_capacity(verdict.repeats.len());
    for (position, row) in &verdict.repeats {
        let sql = "INSERT OR IGNORE INTO millrace_skipped (log_id, part, position, first_log_id, first_position, same_body)
                   VALUES (?1, 0, ?2, ?3, ?4, ?5)";
        connection.prepare_cached(sql)?.execute(params![
            log.0,
            *position as i64,
            row.log.0,
            row.position as i64,
            verdict.same_body
        ])?;
        skipped.push(Skipped {
            position: *position,
            first_log: row.log,
            first_position: row.position,
            same_body: verdict.same_body,
        });
    }
    if !verdict.same_body {
        for dead_letter in &seen.conflict {
            dead_letters::insert(connection, log, dead_letter)?;
        }
    }
    Ok(skipped)
}

fn overlapping(
    connection: &Connection,
    identity: [u8; 16],
    first: u64,
    count: u64,
    since: Millis,
) -> rusqlite::Result<Vec<DedupRow>> {
    let sql = "SELECT first_line, line_count, log_id, position, body_hash FROM millrace_seen
               WHERE identity = ?1 AND first_line > ?2 AND first_line < ?3 AND first_line + line_count > ?4
               AND (kept = 1 OR received >= ?5)";
    let mut statement = connection.prepare_cached(sql)?;
    // No run is longer than a chunk, so the range of first lines stays short, even for a long upload.
    let earliest = first as i64 - CHUNK_LINES_MAX as i64;
    let rows = statement.query_map(
        params![identity, earliest, (first + count) as i64, first as i64, since.0],
        |row| {
            Ok(DedupRow {
                first: row.get::<_, i64>(0)? as u64,
                count: row.get::<_, i64>(1)? as u64,
                log: LogId(row.get(2)?),
                position: row.get::<_, i64>(3)? as u64,
                hash: BodyHash(row.get(4)?),
            })
        },
    )?;
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::statements;

    #[test]
    fn an_id_outside_its_window_is_new_even_if_its_row_still_exists() {
        let connection = Connection::open_in_memory().expect("opens");
        for table in crate::store::tables::own_tables() {
            connection.execute_batch(&statements::create_table(&table, true)).expect("a table");
        }
        let seen = |position: u64, received: i64| DedupEntry {
            key: crate::store::DedupKey::Event(event::EventId::derived("s", "o", "id")),
            hash: BodyHash([1; 8]),
            received: Millis(received),
            since: Millis(received - 100),
            kept: false,
            events: vec![(position, 0)],
            conflict: Vec::new(),
        };
        let repeats = |position, received| {
            record(&connection, LogId([0; 16]), &seen(position, received)).expect("recorded").len()
        };
        assert_eq!(
            (repeats(0, 1_000), repeats(1, 1_100), repeats(2, 1_101), repeats(3, 1_201)),
            (0, 1, 0, 1)
        );
    }
}

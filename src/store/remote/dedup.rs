//! The gate's rule inside its transaction: what has these identities is read together, each entry judged in
//! its order, and what follows from it written together. Gates of several nodes take turns.

use std::collections::HashMap;

use event::limits::{CHUNK_LINES_MAX, SEEN_LOOKED_UP_MAX};
use event::{BodyHash, LogId};

use super::dead_letters;
use super::session::Session;
use crate::store::plan::{DedupEntry, DedupKey, DedupRow, Skipped};
use crate::store::tables::{Cell, dedup_table, skipped_table};
use crate::store::{StoreError, corrupt_row};

/// The row of `millrace_meta` whose lock is the gates' turn.
pub const TURN: &str = "gate";

type Identity = [u8; 16];

struct Known {
    row: DedupRow,
    received: i64,
    kept: bool,
}

/// Looks all entries up, notes those that are new, and writes down what views are not to see.
pub async fn note_all(
    session: &mut Session,
    log: LogId,
    seen: &[DedupEntry],
) -> Result<Vec<Skipped>, StoreError> {
    if seen.is_empty() {
        return Ok(Vec::new());
    }
    let turn = "SELECT value FROM millrace_meta WHERE name = ? FOR UPDATE";
    session.rows(turn, &[Cell::Text(TURN.to_owned())]).await?;
    let mut known = events_known(session, seen).await?;
    for run in seen.iter().filter(|entry| matches!(entry.key, DedupKey::Lines { .. })) {
        lines_known(session, run, &mut known).await?;
    }
    let mut noted = Vec::new();
    let (mut skipped, mut dead_letters) = (Vec::new(), Vec::new());
    for entry in seen {
        let (identity, ..) = entry.key.parts();
        let of_identity = known.entry(identity).or_default();
        let verdict = entry.verdict(&overlapping(of_identity, entry));
        if verdict.note {
            let row = row_of(log, entry);
            of_identity.retain(|known| known.row.first != row.first);
            of_identity.push(Known { row, received: entry.received.0, kept: entry.kept });
            noted.push((identity, row.first));
        }
        skipped.extend(verdict.repeats.iter().map(|(position, row)| Skipped {
            position: *position,
            first_log: row.log,
            first_position: row.position,
            same_body: verdict.same_body,
        }));
        if !verdict.same_body {
            dead_letters.extend(&entry.conflict);
        }
    }
    write_seen(session, &known, noted).await?;
    write_skipped(session, log, &skipped).await?;
    if !dead_letters.is_empty() {
        dead_letters::new(session, log, &dead_letters).await?;
    }
    Ok(skipped)
}

fn row_of(log: LogId, entry: &DedupEntry) -> DedupRow {
    let (_, first, count) = entry.key.parts();
    let position = entry.events.first().map_or(0, |(position, _)| *position);
    DedupRow { first, count, log, position, hash: entry.hash }
}

fn overlapping(known: &[Known], entry: &DedupEntry) -> Vec<DedupRow> {
    let (_, first, count) = entry.key.parts();
    let meets = |known: &&Known| {
        let DedupRow { first: other, count: lines, .. } = known.row;
        let remembered = known.kept || known.received >= entry.since.0;
        remembered && other < first + count && other + lines > first
    };
    let mut rows: Vec<DedupRow> = known.iter().filter(meets).map(|known| known.row).collect();
    rows.sort_unstable_by_key(|row| row.first);
    rows
}

async fn events_known(
    session: &mut Session,
    seen: &[DedupEntry],
) -> Result<HashMap<Identity, Vec<Known>>, StoreError> {
    let is_event = |entry: &&DedupEntry| matches!(entry.key, DedupKey::Event(_));
    let identities: Vec<Identity> = seen.iter().filter(is_event).map(|entry| entry.key.parts().0).collect();
    let mut known: HashMap<Identity, Vec<Known>> = HashMap::new();
    for page in identities.chunks(SEEN_LOOKED_UP_MAX) {
        let keys: Vec<Cell> =
            page.iter().flat_map(|identity| [Cell::Bytes(identity.to_vec()), Cell::Integer(0)]).collect();
        for row in session.found(&dedup_table(), &keys).await? {
            let (identity, row) = read(row).ok_or_else(|| corrupt_row("millrace_seen"))?;
            known.entry(identity).or_default().push(row);
        }
    }
    Ok(known)
}

/// No run is longer than a chunk, so that the look back is as short however long the source is.
async fn lines_known(
    session: &mut Session,
    run: &DedupEntry,
    known: &mut HashMap<Identity, Vec<Known>>,
) -> Result<(), StoreError> {
    let (identity, first, count) = run.key.parts();
    let sql = "SELECT identity, first_line, line_count, log_id, position, body_hash, received, kept FROM millrace_seen \
               WHERE identity = ? AND first_line > ? AND first_line < ?";
    let earliest = first as i64 - CHUNK_LINES_MAX as i64;
    let parameters =
        [Cell::Bytes(identity.to_vec()), Cell::Integer(earliest), Cell::Integer((first + count) as i64)];
    for row in session.rows(sql, &parameters).await? {
        let (identity, row) = read(row).ok_or_else(|| corrupt_row("millrace_seen"))?;
        let of_identity = known.entry(identity).or_default();
        // Of two runs that lie close together, both look up what lies between them.
        if of_identity.iter().all(|known| known.row.first != row.row.first) {
            of_identity.push(row);
        }
    }
    Ok(())
}

fn read(row: Vec<Cell>) -> Option<(Identity, Known)> {
    match <[Cell; 8]>::try_from(row) {
        Ok(
            [
                Cell::Bytes(identity),
                Cell::Integer(first),
                Cell::Integer(count),
                Cell::Bytes(log),
                Cell::Integer(position),
                Cell::Bytes(hash),
                Cell::Integer(received),
                Cell::Integer(kept),
            ],
        ) => {
            let row = DedupRow {
                first: first as u64,
                count: count as u64,
                log: LogId(log.try_into().ok()?),
                position: position as u64,
                hash: BodyHash(hash.try_into().ok()?),
            };
            Some((identity.try_into().ok()?, Known { row, received, kept: kept == 1 }))
        }
        _ => None,
    }
}

/// What was noted last under an identity and line is what stays.
async fn write_seen(
    session: &mut Session,
    known: &HashMap<Identity, Vec<Known>>,
    mut noted: Vec<(Identity, u64)>,
) -> Result<(), StoreError> {
    noted.sort_unstable();
    noted.dedup();
    let mut cells = Vec::with_capacity(noted.len() * 8);
    for (identity, first) in noted {
        let of_identity = known.get(&identity).into_iter().flatten();
        for Known { row, received, kept } in of_identity.filter(|known| known.row.first == first) {
            cells.extend([
                Cell::Bytes(identity.to_vec()),
                Cell::Integer(row.first as i64),
                Cell::Integer(row.count as i64),
                Cell::Bytes(row.log.0.to_vec()),
                Cell::Integer(row.position as i64),
                Cell::Bytes(row.hash.0.to_vec()),
                Cell::Integer(*received),
                Cell::Integer(i64::from(*kept)),
            ]);
        }
    }
    match cells.is_empty() {
        true => Ok(()),
        false => session.put(&dedup_table(), &cells).await,
    }
}

async fn write_skipped(session: &mut Session, log: LogId, skipped: &[Skipped]) -> Result<(), StoreError> {
    let mut cells = Vec::with_capacity(skipped.len() * 6);
    let mut written = std::collections::HashSet::new();
    for one in skipped.iter().filter(|one| written.insert(one.position)) {
        cells.extend([
            Cell::Bytes(log.0.to_vec()),
            Cell::Integer(0),
            Cell::Integer(one.position as i64),
            Cell::Bytes(one.first_log.0.to_vec()),
            Cell::Integer(one.first_position as i64),
            Cell::Integer(i64::from(one.same_body)),
        ]);
    }
    match cells.is_empty() {
        true => Ok(()),
        false => session.insert_new(&skipped_table(), &cells).await,
    }
}

/// What an earlier attempt at the same plan found, as it is stored.
pub async fn skipped(
    session: &mut Session,
    log: LogId,
    seen: &[DedupEntry],
) -> Result<Vec<Skipped>, StoreError> {
    let positions: Vec<u64> =
        seen.iter().flat_map(|entry| &entry.events).map(|(position, _)| *position).collect();
    let mut found = Vec::new();
    for page in positions.chunks(SEEN_LOOKED_UP_MAX) {
        let keys: Vec<Cell> = page
            .iter()
            .flat_map(|position| {
                [Cell::Bytes(log.0.to_vec()), Cell::Integer(0), Cell::Integer(*position as i64)]
            })
            .collect();
        for row in session.found(&skipped_table(), &keys).await? {
            found.push(skipped_row(row).ok_or_else(|| corrupt_row("millrace_skipped"))?);
        }
    }
    found.sort_unstable_by_key(|skipped| skipped.position);
    Ok(found)
}

fn skipped_row(row: Vec<Cell>) -> Option<Skipped> {
    match <[Cell; 6]>::try_from(row) {
        Ok([_, _, Cell::Integer(position), Cell::Bytes(log), Cell::Integer(first), Cell::Integer(same)]) => {
            Some(Skipped {
                position: position as u64,
                first_log: LogId(log.try_into().ok()?),
                first_position: first as u64,
                same_body: same == 1,
            })
        }
        _ => None,
    }
}

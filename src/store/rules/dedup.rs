//! The dedup rule inside a plan's transaction. Reads the stored rows of all identities together, decides about the
//! new entries in their order, and writes the results together. Nodes take turns by locking a row.

use std::collections::HashMap;

use event::LogId;
use event::limits::{CHUNK_LINES_MAX, DEDUP_IDS_LOOKED_UP_MAX};

use super::dead_letters;
use crate::store::StoreError;
use crate::store::cell::Cell;
use crate::store::dedup_rule::{ClockJumps, DedupEntry, DedupKey, DedupRow, Skipped};
use crate::store::millrace_tables::{dedup_table, skipped_table};
use crate::store::session::Session;
use crate::store::stored_row::decoded;

/// The row of `millrace_meta` that a node locks while it applies the dedup rule.
pub const LOCK_ROW: &str = "gate";

type Identity = [u8; 16];

/// A row of `millrace_seen`, stored before or to be written by this plan.
struct StoredEntry {
    row: DedupRow,
    received: i64,
    /// `None` for a row without a time limit, or one to which dedup has not given its expiry yet.
    expires: Option<i64>,
}

impl StoredEntry {
    fn new(row: DedupRow, entry: &DedupEntry) -> Self {
        let expires = entry.expires.map(|expires| expires.0);
        Self { row, received: entry.received.0, expires }
    }

    /// Lets the row count for as long as the source of a repeat remembers ids, from the first receipt on. Returns
    /// whether that is longer than before.
    fn remember_for(&mut self, repeat: &DedupEntry) -> bool {
        let (Some(expires), Some(of_repeat)) = (self.expires, repeat.expires) else { return false };
        let longer = self.received.saturating_add(of_repeat.0 - repeat.received.0);
        self.expires = Some(expires.max(longer));
        longer > expires
    }
}

/// Looks up all entries, stores the new ones, and records the events that views skip.
pub async fn record_all(
    session: &mut impl Session,
    log: LogId,
    entries: &[DedupEntry],
    clock_jumps: &ClockJumps,
) -> Result<Vec<Skipped>, StoreError> {
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    session.lock_row(LOCK_ROW).await?;
    let mut known = stored_events(session, entries).await?;
    for run in entries.iter().filter(|entry| matches!(entry.key, DedupKey::Lines { .. })) {
        read_stored_runs(session, run, &mut known).await?;
    }
    let mut new_rows = Vec::new();
    let (mut skipped, mut dead_letters) = (Vec::new(), Vec::new());
    for entry in entries {
        let (identity, ..) = entry.key.parts();
        let same_identity = known.entry(identity).or_default();
        let verdict = entry.verdict(&overlapping(same_identity, entry, clock_jumps));
        if verdict.note {
            let row = row_of(log, entry);
            same_identity.retain(|known| known.row.first != row.first);
            same_identity.push(StoredEntry::new(row, entry));
            new_rows.push((identity, row.first));
        }
        if verdict.same_body
            && let Some(row) = same_identity.iter_mut().find(|known| known.row.first == entry.key.parts().1)
            && row.remember_for(entry)
        {
            new_rows.push((identity, row.row.first));
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
    write_entries(session, &known, new_rows).await?;
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

/// Returns the rows that share lines with `entry` and are still remembered.
fn overlapping(known: &[StoredEntry], entry: &DedupEntry, clock_jumps: &ClockJumps) -> Vec<DedupRow> {
    let (_, first, count) = entry.key.parts();
    let overlaps = |known: &&StoredEntry| {
        let DedupRow { first: other, count: lines, .. } = known.row;
        let remembered = known.expires.is_none_or(|expires| {
            let jumped = clock_jumps.within(expires.saturating_sub(known.received));
            expires.saturating_add(jumped) >= entry.received.0
        });
        remembered && other < first + count && other + lines > first
    };
    let mut rows: Vec<DedupRow> = known.iter().filter(overlaps).map(|known| known.row).collect();
    rows.sort_unstable_by_key(|row| row.first);
    rows
}

async fn stored_events(
    session: &mut impl Session,
    entries: &[DedupEntry],
) -> Result<HashMap<Identity, Vec<StoredEntry>>, StoreError> {
    let is_event = |entry: &&DedupEntry| matches!(entry.key, DedupKey::Event(_));
    let identities: Vec<Identity> =
        entries.iter().filter(is_event).map(|entry| entry.key.parts().0).collect();
    let mut known: HashMap<Identity, Vec<StoredEntry>> = HashMap::new();
    for page in identities.chunks(DEDUP_IDS_LOOKED_UP_MAX) {
        let keys: Vec<Cell> =
            page.iter().flat_map(|identity| [Cell::Bytes(identity.to_vec()), Cell::Integer(0)]).collect();
        for row in session.rows_by_key(&dedup_table(), &keys).await? {
            let (identity, row) = read(row)?;
            known.entry(identity).or_default().push(row);
        }
    }
    Ok(known)
}

/// Reads the stored runs of lines that can overlap `run`. No run has more lines than a chunk, so the range to read is
/// bounded, however long the upload is.
async fn read_stored_runs(
    session: &mut impl Session,
    run: &DedupEntry,
    known: &mut HashMap<Identity, Vec<StoredEntry>>,
) -> Result<(), StoreError> {
    let (identity, first, count) = run.key.parts();
    let sql = "SELECT identity, first_line, line_count, log_id, position, body_hash, received, kept, expires FROM millrace_seen \
               WHERE identity = ? AND first_line > ? AND first_line < ?";
    let earliest = first as i64 - CHUNK_LINES_MAX as i64;
    let parameters =
        [Cell::Bytes(identity.to_vec()), Cell::Integer(earliest), Cell::Integer((first + count) as i64)];
    for row in session.rows(sql, &parameters).await? {
        let (identity, row) = read(row)?;
        let same_identity = known.entry(identity).or_default();
        // Two runs that are close to each other can read the same stored run.
        if same_identity.iter().all(|known| known.row.first != row.row.first) {
            same_identity.push(row);
        }
    }
    Ok(())
}

fn read(row: Vec<Cell>) -> Result<(Identity, StoredEntry), StoreError> {
    let (identity, first, count, log, position, hash, received, _kept, expires) =
        decoded::<(_, _, _, _, _, _, _, i64, _)>("millrace_seen", row)?;
    let row = DedupRow { first, count, log, position, hash };
    Ok((identity, StoredEntry { row, received, expires }))
}

/// Writes the new rows. For an identity and first line, `known` contains only the row that was added last.
async fn write_entries(
    session: &mut impl Session,
    known: &HashMap<Identity, Vec<StoredEntry>>,
    mut new_rows: Vec<(Identity, u64)>,
) -> Result<(), StoreError> {
    new_rows.sort_unstable();
    new_rows.dedup();
    let mut cells = Vec::with_capacity(new_rows.len() * 9);
    for (identity, first) in new_rows {
        let same_identity = known.get(&identity).into_iter().flatten();
        for StoredEntry { row, received, expires } in same_identity.filter(|known| known.row.first == first) {
            cells.extend([
                Cell::Bytes(identity.to_vec()),
                Cell::Integer(row.first as i64),
                Cell::Integer(row.count as i64),
                Cell::Bytes(row.log.0.to_vec()),
                Cell::Integer(row.position as i64),
                Cell::Bytes(row.hash.0.to_vec()),
                Cell::Integer(*received),
                Cell::Integer(i64::from(expires.is_none())),
                expires.map_or(Cell::Null, Cell::Integer),
            ]);
        }
    }
    if cells.is_empty() { Ok(()) } else { session.put(&dedup_table(), &cells).await }
}

async fn write_skipped(
    session: &mut impl Session,
    log: LogId,
    skipped: &[Skipped],
) -> Result<(), StoreError> {
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
    if cells.is_empty() { Ok(()) } else { session.insert_new(&skipped_table(), &cells).await }
}

/// Returns the skipped events that an earlier attempt at the same plan stored.
pub async fn skipped(
    session: &mut impl Session,
    log: LogId,
    entries: &[DedupEntry],
) -> Result<Vec<Skipped>, StoreError> {
    let positions: Vec<u64> =
        entries.iter().flat_map(|entry| &entry.events).map(|(position, _)| *position).collect();
    let mut found = Vec::new();
    for page in positions.chunks(DEDUP_IDS_LOOKED_UP_MAX) {
        let keys: Vec<Cell> = page
            .iter()
            .flat_map(|position| {
                [Cell::Bytes(log.0.to_vec()), Cell::Integer(0), Cell::Integer(*position as i64)]
            })
            .collect();
        for row in session.rows_by_key(&skipped_table(), &keys).await? {
            let (_, _, position, first_log, first_position, same_body): (LogId, i64, _, _, _, _) =
                decoded("millrace_skipped", row)?;
            found.push(Skipped { position, first_log, first_position, same_body });
        }
    }
    found.sort_unstable_by_key(|skipped| skipped.position);
    Ok(found)
}

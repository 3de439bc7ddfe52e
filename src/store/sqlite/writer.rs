//! SQLite's one writer: a thread that takes what waits, gives each plan a savepoint of its own, and
//! commits them together, so that many views share one sync.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::oneshot;

use super::errors::sorted;
use super::{owner, shape, statements};
use crate::event::limits::{CHUNK_LINES_MAX, PLANS_TOGETHER_MAX};
use crate::event::{BodyHash, LogId, Millis};
use crate::store::plan::{Claim, LetterChange, NewLetter, Plan, Seen, SeenRow, Skipped};
use crate::store::tables::{Cell, Opening, Table, quote};
use crate::store::{LetterStatus, StoreError};
use journal::failpoint;

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// One thing to write.
pub enum Job {
    Apply { plan: Arc<Plan>, answer: Answer<Vec<Skipped>> },
    BeginView { claim: Claim, table: Option<Table>, opening: Option<Opening>, answer: Answer<()> },
    Change { sql: String, parameters: Vec<Cell>, answer: Answer<usize> },
    MakeTable { table: Table, answer: Answer<()> },
}

pub struct Writer {
    jobs: Mutex<Option<SyncSender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    pub fn start(connection: Connection) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(PLANS_TOGETHER_MAX);
        let thread = std::thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || run(&connection, &receiver))?;
        Ok(Self { jobs: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)) })
    }

    /// Never blocks: a writer with a full queue is busy, and the caller tries again.
    pub fn send(&self, job: Job) -> Result<(), StoreError> {
        let jobs = self.jobs.lock().expect("no panic while holding the lock");
        let sender = jobs.as_ref().ok_or(StoreError::Closed)?;
        sender.try_send(job).map_err(|_| StoreError::Transient("the store's queue is full".to_owned()))
    }

    pub fn close(&self) {
        self.jobs.lock().expect("no panic while holding the lock").take();
        if let Some(thread) = self.thread.lock().expect("no panic while holding the lock").take() {
            thread.join().expect("the writer does not panic");
        }
    }
}

/// A job that is done in the open transaction and waits for its commit.
type Settle = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

fn run(connection: &Connection, jobs: &Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        let mut settle: Vec<Settle> = Vec::new();
        let mut open = control(connection, "BEGIN IMMEDIATE");
        let mut next = Some(first);
        while let Some(job) = next {
            settle.push(match &open {
                Ok(()) => perform(connection, job),
                Err(error) => refuse(job, error.clone()),
            });
            open = open.and_then(|()| still_open(connection));
            next = if settle.len() < PLANS_TOGETHER_MAX { jobs.try_recv().ok() } else { None };
        }
        failpoint::hit("store.commit");
        let committed = open.and_then(|()| control(connection, "COMMIT"));
        failpoint::hit("store.committed");
        if committed.is_err() && !connection.is_autocommit() {
            // Should the rollback fail as well, the next BEGIN does and says so.
            let _ = connection.execute_batch("ROLLBACK");
        }
        for settle in settle {
            settle(committed.clone());
        }
    }
    // A clean end leaves one file: the write-ahead log goes back into it.
    let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
}

/// Begins, ends and undoes; a test leaves it out to see whether its checker notices.
fn control(connection: &Connection, sql: &str) -> Result<(), StoreError> {
    match failpoint::skips("store.transaction") {
        true => Ok(()),
        false => connection.execute_batch(sql).map_err(sorted),
    }
}

/// A full disk makes SQLite roll all of a transaction back by itself. What came after would then be
/// committed statement by statement, and its senders told that it was not.
fn still_open(connection: &Connection) -> Result<(), StoreError> {
    match connection.is_autocommit() && !failpoint::skips("store.transaction") {
        true => Err(StoreError::Transient("the transaction was rolled back by SQLite".to_owned())),
        false => Ok(()),
    }
}

fn perform(connection: &Connection, job: Job) -> Settle {
    match job {
        Job::Apply { plan, answer } => settled(in_savepoint(connection, || apply(connection, &plan)), answer),
        Job::BeginView { claim, table, opening, answer } => settled(
            in_savepoint(connection, || begin_view(connection, &claim, table.as_ref(), opening.as_ref())),
            answer,
        ),
        Job::MakeTable { table, answer } => {
            let make = || connection.execute_batch(&statements::create_table(&table, true)).map_err(sorted);
            settled(in_savepoint(connection, make), answer)
        }
        Job::Change { sql, parameters, answer } => {
            let change = || connection.execute(&sql, rusqlite::params_from_iter(&parameters)).map_err(sorted);
            settled(in_savepoint(connection, change), answer)
        }
    }
}

fn refuse(job: Job, error: StoreError) -> Settle {
    match job {
        Job::Apply { answer, .. } => settled(Err(error), answer),
        Job::BeginView { answer, .. } => settled(Err(error), answer),
        Job::Change { answer, .. } => settled(Err(error), answer),
        Job::MakeTable { answer, .. } => settled(Err(error), answer),
    }
}

/// The asker may have gone; the work stands all the same.
fn settled<T: Send + 'static>(outcome: Result<T, StoreError>, answer: Answer<T>) -> Settle {
    Box::new(move |committed| drop(answer.send(outcome.and_then(|value| committed.map(|()| value)))))
}

fn in_savepoint<T>(
    connection: &Connection,
    work: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    control(connection, "SAVEPOINT one")?;
    let outcome = work();
    // Where all was rolled back there is no savepoint any more, and the first error is the one to tell.
    if outcome.is_ok() || still_open(connection).is_ok() {
        let end = if outcome.is_ok() { "RELEASE one" } else { "ROLLBACK TO one; RELEASE one" };
        control(connection, end)?;
    }
    outcome
}

fn apply(connection: &Connection, plan: &Plan) -> Result<Vec<Skipped>, StoreError> {
    failpoint::hit("store.begin");
    if !failpoint::skips("store.claim") {
        claim(connection, &plan.claim)?;
    }
    for write in &plan.writes {
        let sql = statements::add(&write.table);
        let mut statement = connection.prepare_cached(&sql).map_err(sorted)?;
        for row in write.cells.chunks_exact(write.table.columns.len()) {
            statement.execute(rusqlite::params_from_iter(row)).map_err(sorted)?;
        }
    }
    failpoint::hit("store.written");
    for change in &plan.letters {
        change_letter(connection, plan.claim.log, change).map_err(sorted)?;
    }
    let mut skipped = Vec::new();
    for seen in &plan.seen {
        skipped.extend(note_seen(connection, plan.claim.log, seen).map_err(sorted)?);
    }
    Ok(skipped)
}

/// Exactly one row must change, or the plan is not ours to apply.
fn claim(connection: &Connection, claim: &Claim) -> Result<(), StoreError> {
    let sql = "UPDATE millrace_positions SET position = ?1 WHERE view = ?2 AND log_id = ?3 AND part = 0 AND position = ?4";
    let mut statement = connection.prepare_cached(sql).map_err(sorted)?;
    let changed = statement
        .execute(params![claim.to as i64, claim.view, claim.log.0, claim.from as i64])
        .map_err(sorted)?;
    match changed {
        1 => Ok(()),
        _ => Err(StoreError::Claimed {
            view: claim.view.clone(),
            expected: claim.from,
            found: stored_position(connection, claim).map_err(sorted)?,
        }),
    }
}

fn stored_position(connection: &Connection, claim: &Claim) -> rusqlite::Result<Option<u64>> {
    let sql = "SELECT position FROM millrace_positions WHERE view = ?1 AND log_id = ?2 AND part = 0";
    let row = connection
        .prepare_cached(sql)?
        .query_row(params![claim.view, claim.log.0], |row| row.get::<_, i64>(0));
    Ok(row.optional()?.map(|position| position as u64))
}

fn begin_view(
    connection: &Connection,
    claim: &Claim,
    table: Option<&Table>,
    opening: Option<&Opening>,
) -> Result<(), StoreError> {
    let known = stored_position(connection, claim).map_err(sorted)?.is_some();
    if let (Some(table), Some(opening)) = (table, opening) {
        owner::take(connection, table, &opening.view)?;
    }
    let was_there = match table {
        Some(table) => begin_table(connection, table, known)?,
        None => false,
    };
    if known {
        return Ok(());
    }
    let sql = "INSERT INTO millrace_positions (view, log_id, part, position) VALUES (?1, ?2, 0, ?3)";
    connection.execute(sql, params![claim.view, claim.log.0, claim.from as i64]).map_err(sorted)?;
    if let (true, Some(table), Some(opening)) = (was_there, table, opening) {
        let (key, amount, table) =
            (quote(&opening.key_column), quote(&opening.amount_column), quote(&table.name));
        let sql = format!(
            "INSERT OR IGNORE INTO millrace_opening (view, row_key, amount) SELECT ?1, {key}, {amount} FROM {table}"
        );
        connection.execute(&sql, [&opening.view]).map_err(sorted)?;
    }
    Ok(())
}

/// Whether the table was there. A view that has begun needs its table: made anew it would be empty, and
/// what was counted into it would be missing without a word.
fn begin_table(connection: &Connection, table: &Table, begun: bool) -> Result<bool, StoreError> {
    match (shape::exists(connection, &table.name)?, begun) {
        (true, _) => shape::check(connection, table).map(|()| true),
        (false, true) => Err(StoreError::NoTable(table.name.clone())),
        (false, false) => {
            connection.execute_batch(&statements::create_table(table, false)).map(|()| false).map_err(sorted)
        }
    }
}

fn change_letter(connection: &Connection, log: LogId, change: &LetterChange) -> rusqlite::Result<()> {
    match change {
        LetterChange::New(letter) => {
            new_letter(connection, log, letter)?;
            pass_by(connection, log, &letter.view, letter.position)
        }
        LetterChange::Applied { id, at } => {
            let sql = "UPDATE millrace_dead_letters SET status = ?1, updated = ?2 WHERE id = ?3";
            connection.execute(sql, params![LetterStatus::Applied.as_str(), at.0, id.to_string()]).map(drop)
        }
        LetterChange::Again { id, view, position, reason, at } => {
            let sql = "UPDATE millrace_dead_letters SET status = ?1, reason = ?2, attempts = attempts + 1, updated = ?3 WHERE id = ?4";
            connection.execute(sql, params![LetterStatus::Open.as_str(), reason, at.0, id.to_string()])?;
            pass_by(connection, log, view, *position)
        }
    }
}

fn pass_by(connection: &Connection, log: LogId, view: &str, position: u64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO millrace_passed (view, log_id, part, position) VALUES (?1, ?2, 0, ?3) ON CONFLICT DO NOTHING";
    connection.prepare_cached(sql)?.execute(params![view, log.0, position as i64]).map(drop)
}

fn new_letter(connection: &Connection, log: LogId, letter: &NewLetter) -> rusqlite::Result<()> {
    let sql = "INSERT INTO millrace_dead_letters (id, view, log_id, part, position, event_id, stream, reason, event, status, attempts, created, updated)
               VALUES (?1, ?2, ?3, 0, ?4, ?5, ?6, ?7, ?8, ?9, 1, ?10, ?10)
               ON CONFLICT DO NOTHING";
    connection.prepare_cached(sql)?.execute(params![
        letter.id.to_string(),
        letter.view,
        log.0,
        letter.position as i64,
        letter.event_id.to_string(),
        letter.stream,
        letter.reason,
        letter.event,
        LetterStatus::Open.as_str(),
        letter.at.0,
    ])?;
    Ok(())
}

/// Looks one identity up, notes it if it is new, and writes down what views are not to see.
fn note_seen(connection: &Connection, log: LogId, seen: &Seen) -> rusqlite::Result<Vec<Skipped>> {
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
        for letter in &seen.conflict {
            new_letter(connection, log, letter)?;
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
) -> rusqlite::Result<Vec<SeenRow>> {
    let sql = "SELECT first_line, line_count, log_id, position, body_hash FROM millrace_seen
               WHERE identity = ?1 AND first_line > ?2 AND first_line < ?3 AND first_line + line_count > ?4
               AND (kept = 1 OR received >= ?5)";
    let mut statement = connection.prepare_cached(sql)?;
    // No run is longer than a chunk, so that the look back is as short however long the source is.
    let earliest = first as i64 - CHUNK_LINES_MAX as i64;
    let rows = statement.query_map(
        params![identity, earliest, (first + count) as i64, first as i64, since.0],
        |row| {
            Ok(SeenRow {
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

    fn change(sql: &str) -> (Job, oneshot::Receiver<Result<usize, StoreError>>) {
        let (answer, receiver) = oneshot::channel();
        (Job::Change { sql: sql.to_owned(), parameters: Vec::new(), answer }, receiver)
    }

    #[test]
    fn what_shares_a_transaction_that_ran_out_of_room_is_refused_with_it_and_nothing_of_it_stays() {
        let connection = Connection::open_in_memory().expect("opens");
        connection.execute_batch("CREATE TABLE t (a); PRAGMA max_page_count = 20").expect("a small database");
        let (sender, receiver) = sync_channel(8);
        let statements = [
            "INSERT INTO t VALUES ('before')",
            "INSERT INTO t VALUES (zeroblob(1000000))",
            "INSERT INTO t VALUES ('after')",
        ];
        let answers: Vec<_> = statements
            .map(|sql| {
                let (job, answer) = change(sql);
                sender.send(job).expect("room in the queue");
                answer
            })
            .into();
        drop(sender);
        run(&connection, &receiver);
        for answer in answers {
            let outcome = answer.blocking_recv().expect("an answer");
            assert!(matches!(outcome, Err(StoreError::Transient(_))), "{outcome:?}");
        }
        let rows: i64 = connection.query_row("SELECT COUNT(*) FROM t", [], |row| row.get(0)).expect("a row");
        assert_eq!(rows, 0);
    }

    #[test]
    fn an_id_out_of_its_window_is_new_whether_its_row_was_deleted_or_not() {
        let connection = Connection::open_in_memory().expect("opens");
        for table in crate::store::tables::own_tables() {
            connection.execute_batch(&statements::create_table(&table, true)).expect("a table");
        }
        let seen = |position: u64, received: i64| Seen {
            key: crate::store::SeenKey::Event(crate::event::EventId::derived("s", "o", "id")),
            hash: BodyHash([1; 8]),
            received: Millis(received),
            since: Millis(received - 100),
            kept: false,
            events: vec![(position, 0)],
            conflict: Vec::new(),
        };
        let repeats = |position, received| {
            note_seen(&connection, LogId([0; 16]), &seen(position, received)).expect("noted").len()
        };
        assert_eq!(
            (repeats(0, 1_000), repeats(1, 1_100), repeats(2, 1_101), repeats(3, 1_201)),
            (0, 1, 0, 1)
        );
    }
}

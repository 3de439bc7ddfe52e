//! The single writer of SQLite: a thread that takes all waiting jobs and commits them in one transaction. Many views
//! therefore share one sync. A failed job is undone alone, with a savepoint.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use event::limits::{PLANS_TOGETHER_MAX, STORE_FILES_CHECK_INTERVAL};
use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use super::commit_stamp::Stamper;
use super::errors::classify;
use super::files::Files;
use crate::store::StoreError;

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// One thing to write.
pub enum Job {
    /// Shares its transaction with others, unless it is `alone`.
    Write { alone: bool, work: Work },
    /// Copies the write-ahead log into the database and empties it. This cannot run within a transaction.
    Scrub { answer: Answer<()> },
}

/// Does the work in the open transaction, or does nothing if there is none. Returns what sends the result.
type Work = Box<dyn FnOnce(&Connection, Result<Undo, StoreError>) -> Settle + Send>;

/// Sends a job's result once its transaction is committed or has failed.
type Settle = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

impl Job {
    pub fn write<T: Send + 'static>(
        alone: bool,
        answer: Answer<T>,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Self {
        let work = move |connection: &Connection, undo: Result<Undo, StoreError>| -> Settle {
            let outcome = undo.and_then(|undo| undone_on_failure(connection, undo, || work(connection)));
            // The receiver may be gone; the committed work stays.
            Box::new(move |committed| {
                drop(answer.send(outcome.and_then(|value| committed.map(|()| value))));
            })
        };
        Self::Write { alone, work: Box::new(work) }
    }
}

pub struct Writer {
    jobs: Mutex<Option<SyncSender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    failure: watch::Receiver<Option<String>>,
}

impl Writer {
    pub fn start(connection: Connection, stamper: Stamper, files: Files) -> std::io::Result<Self> {
        let (sender, jobs) = sync_channel(PLANS_TOGETHER_MAX);
        let (fail, failure) = watch::channel(None);
        // The first check notes the sizes with which later ones compare.
        let _ = files.expect_in_place(&connection);
        let incoming = Incoming { jobs, files: Some(files), checked: Instant::now(), fail };
        let thread = event::start_thread("sqlite-writer", move || run(&connection, stamper, incoming))?;
        Ok(Self { jobs: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)), failure })
    }

    /// Returns the reason why the database's files have become unusable, if they have.
    pub fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }

    /// Waits until a check finds that the database's files were moved, removed, replaced or cut. Returns the reason.
    pub async fn failed(&self) -> String {
        let mut failure = self.failure.clone();
        match failure.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            // The writer ended normally.
            Err(_) => std::future::pending().await,
        }
    }

    /// Queues a job without blocking. Fails with a temporary error if the queue is full; the caller tries again.
    pub fn send(&self, job: Job) -> Result<(), StoreError> {
        let jobs = event::lock(&self.jobs);
        let sender = jobs.as_ref().ok_or(StoreError::Closed)?;
        sender.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Transient("the store's queue is full".to_owned()),
            TrySendError::Disconnected(_) => StoreError::Closed,
        })
    }

    pub fn close(&self) {
        event::lock(&self.jobs).take();
        if let Some(thread) = event::lock(&self.thread).take() {
            thread.join().expect("the writer does not panic");
        }
    }
}

/// Receives jobs while the database's files are in place.
struct Incoming {
    jobs: Receiver<Job>,
    /// `None` for a database in memory.
    files: Option<Files>,
    checked: Instant,
    fail: watch::Sender<Option<String>>,
}

impl Incoming {
    /// Waits for the next job. Returns `None` once the queue is closed or the files are not in place.
    fn next(&mut self, connection: &Connection) -> Option<Job> {
        loop {
            if self.checked.elapsed() >= STORE_FILES_CHECK_INTERVAL && !self.files_are_in_place(connection) {
                return None;
            }
            match self.jobs.recv_timeout(STORE_FILES_CHECK_INTERVAL) {
                Ok(job) => return Some(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// Checks the files and reports the failure if they are not in place: later writes to them would be lost.
    fn files_are_in_place(&mut self, connection: &Connection) -> bool {
        self.checked = Instant::now();
        match self.files.as_ref().map_or(Ok(()), |files| files.expect_in_place(connection)) {
            Ok(()) => true,
            Err(reason) => {
                self.fail.send_replace(Some(reason));
                false
            }
        }
    }
}

fn run(connection: &Connection, mut stamper: Stamper, mut incoming: Incoming) {
    let mut left_over = None;
    while let Some(first) = left_over.take().or_else(|| incoming.next(connection)) {
        let (alone, mut work) = match first {
            Job::Write { alone, work } => (alone, work),
            Job::Scrub { answer } => {
                drop(answer.send(scrub(connection)));
                continue;
            }
        };
        let mut settle: Vec<Settle> = Vec::new();
        let mut open = control(connection, "BEGIN IMMEDIATE");
        loop {
            let undo = if settle.is_empty() { Undo::Whole } else { Undo::Part };
            settle.push(work(connection, open.clone().map(|()| undo)));
            open = open.and_then(|()| still_open(connection));
            if alone || settle.len() == PLANS_TOGETHER_MAX {
                break;
            }
            match incoming.jobs.try_recv() {
                Ok(Job::Write { alone: false, work: next }) => work = next,
                other => {
                    left_over = other.ok();
                    break;
                }
            }
        }
        failpoint::hit("store.commit");
        let stamped = open.and_then(|()| stamper.stamp(connection).map_err(classify));
        let committed = stamped.and_then(|()| control(connection, "COMMIT"));
        failpoint::hit("store.committed");
        if committed.is_err() && !connection.is_autocommit() {
            // If the rollback fails too, the next BEGIN fails and reports it.
            let _ = connection.execute_batch("ROLLBACK");
        }
        for settle in settle {
            settle(committed.clone());
        }
    }
    // A clean end leaves one file: the write-ahead log is copied into it.
    if incoming.files_are_in_place(connection) {
        let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    }
}

/// How a failed job is undone.
#[derive(Clone, Copy)]
pub enum Undo {
    /// The job is the first in its transaction: rolls back and begins a new one.
    Whole,
    /// Other jobs precede it in the transaction: rolls back to its savepoint.
    Part,
}

/// Empties the write-ahead log. An active reader prevents that; the error is temporary then.
fn scrub(connection: &Connection) -> Result<(), StoreError> {
    let busy: i64 =
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).map_err(classify)?;
    match busy {
        0 => Ok(()),
        _ => Err(StoreError::Transient("a reader is using the write-ahead log".to_owned())),
    }
}

/// Runs a transaction statement. A test skips these statements to prove that its checker detects the damage.
fn control(connection: &Connection, sql: &str) -> Result<(), StoreError> {
    if failpoint::skips("store.transaction") {
        Ok(())
    } else {
        connection.execute_batch(sql).map_err(classify)
    }
}

/// Fails if SQLite has rolled back the transaction itself, as it does when the disk is full. Without this check,
/// later statements would be committed one by one, although their jobs report a failure.
fn still_open(connection: &Connection) -> Result<(), StoreError> {
    if connection.is_autocommit() && !failpoint::skips("store.transaction") {
        Err(StoreError::Transient("the transaction was rolled back by SQLite".to_owned()))
    } else {
        Ok(())
    }
}

/// Does the work, and undoes it if it fails.
fn undone_on_failure<T>(
    connection: &Connection,
    undo: Undo,
    work: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let [begin, keep, drop] = match undo {
        Undo::Whole => ["", "", "ROLLBACK; BEGIN IMMEDIATE"],
        Undo::Part => ["SAVEPOINT one", "RELEASE one", "ROLLBACK TO one; RELEASE one"],
    };
    control(connection, begin)?;
    let outcome = work();
    // If SQLite has rolled back everything, there is no savepoint to end, and the first error is returned.
    if outcome.is_ok() || still_open(connection).is_ok() {
        control(connection, if outcome.is_ok() { keep } else { drop })?;
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::super::commit_stamp;
    use super::*;

    fn run_all(connection: &Connection, jobs: Receiver<Job>) {
        let incoming = Incoming { jobs, files: None, checked: Instant::now(), fail: watch::channel(None).0 };
        run(connection, Stamper::new().expect("random bytes"), incoming);
    }

    fn opened() -> Connection {
        let connection = Connection::open_in_memory().expect("opens");
        commit_stamp::make_table(&connection).expect("a table");
        connection
    }

    fn change(sql: &'static str) -> (Job, oneshot::Receiver<Result<(), StoreError>>) {
        let (answer, receiver) = oneshot::channel();
        (Job::write(false, answer, move |open| open.execute_batch(sql).map_err(classify)), receiver)
    }

    #[test]
    fn a_failed_job_leaves_nothing_behind_at_any_place_in_its_transaction() {
        for failing in 0..3 {
            let connection = opened();
            connection.execute_batch("CREATE TABLE t (a INTEGER PRIMARY KEY)").expect("a table");
            let (sender, receiver) = sync_channel(8);
            let answers: Vec<_> = (0..3)
                .map(|number| {
                    // The second statement fails after the first has succeeded.
                    let second = if number == failing { number } else { number + 10 };
                    let sql = format!("INSERT INTO t VALUES ({number}); INSERT INTO t VALUES ({second})");
                    let (answer, receiver) = oneshot::channel();
                    let insert = move |open: &Connection| open.execute_batch(&sql).map_err(classify);
                    sender.send(Job::write(false, answer, insert)).expect("room in the queue");
                    receiver
                })
                .collect();
            drop(sender);
            run_all(&connection, receiver);
            let accepted =
                answers.into_iter().map(|answer| answer.blocking_recv().expect("an answer").is_ok());
            let expected: Vec<bool> = (0..3).map(|number| number != failing).collect();
            assert_eq!(accepted.collect::<Vec<_>>(), expected);
            let mut statement = connection.prepare("SELECT a FROM t ORDER BY a").expect("a query");
            let rows = statement.query_map([], |row| row.get(0)).expect("rows");
            let rows: Vec<i64> = rows.collect::<rusqlite::Result<_>>().expect("rows");
            let others = (0..3).filter(|number| *number != failing);
            let expected: Vec<i64> = others.clone().chain(others.map(|number| number + 10)).collect();
            assert_eq!(rows, expected, "job {failing} failed");
        }
    }

    #[test]
    fn all_jobs_of_a_transaction_that_runs_out_of_space_fail_and_leave_nothing() {
        let connection = opened();
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
        run_all(&connection, receiver);
        for answer in answers {
            let outcome = answer.blocking_recv().expect("an answer");
            assert!(matches!(outcome, Err(StoreError::Transient(_))), "{outcome:?}");
        }
        let rows: i64 = connection.query_row("SELECT COUNT(*) FROM t", [], |row| row.get(0)).expect("a row");
        assert_eq!(rows, 0);
    }
}

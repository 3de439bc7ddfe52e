//! Looks for damaged pages in the database file: some time after the start, and then daily. SQLite itself notices
//! damage only when it reads the page.
//!
//! `PRAGMA quick_check` reads every page. It would take a processor and the disk for itself, so the check rests nine
//! tenths of the time. It uses a separate connection and reads one table after the other. While it reads a table, the
//! write-ahead log cannot be emptied. If the log grows too much, or if an erasure has to empty it, the check stops
//! reading that table and tries it again later.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use event::limits::{STORE_DAMAGE_CHECK_DELAY, STORE_DAMAGE_CHECK_INTERVAL};
use rusqlite::{Connection, ErrorCode};

use super::commit_stamp::companion_file;
use super::connection;
use crate::store::tables::quote;

/// SQLite calls the handler after so many pages or rows.
const STEPS_BETWEEN_CALLS: i32 = 50;
const WORK_DURATION_MAX: Duration = Duration::from_millis(2);
/// How much longer than it works the check rests.
const REST_FACTOR: u32 = 9;
/// By how much the write-ahead log may grow while one table is checked.
const LOG_GROWTH_BYTES_MAX: u64 = 128 * 1024 * 1024;
const TABLE_TRIES_MAX: usize = 5;
const RETRY_DELAY: Duration = Duration::from_secs(10);

/// The check and what it found.
pub struct DamageCheck {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    damage: Mutex<Option<String>>,
    stopped: AtomicBool,
    /// True if the check has to end its current read.
    in_the_way: AtomicBool,
}

impl DamageCheck {
    /// Starts the thread that checks the database at `path`.
    pub fn start(path: &Path) -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let checker = Checker { path: path.to_owned(), shared: Arc::clone(&shared) };
        let thread = event::start_thread("sqlite-check", move || checker.run())?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Returns what the last check found to be damaged.
    pub fn damage(&self) -> Option<String> {
        event::lock(&self.shared.damage).clone()
    }

    /// Ends the check's current read, because the write-ahead log has to be emptied. The check repeats it later.
    pub fn give_way(&self) {
        self.shared.in_the_way.store(true, Ordering::Relaxed);
    }

    pub fn close(&self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = event::lock(&self.thread).take() {
            thread.thread().unpark();
            thread.join().expect("the check does not panic");
        }
    }
}

impl Drop for DamageCheck {
    /// Ends the thread of a store that was dropped without being closed.
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = event::lock(&self.thread).as_ref() {
            thread.thread().unpark();
        }
    }
}

impl Shared {
    /// Waits, and returns false as soon as the store is closed.
    fn rest(&self, duration: Duration) -> bool {
        let end = Instant::now() + duration;
        loop {
            if self.stopped.load(Ordering::Relaxed) {
                return false;
            }
            match end.checked_duration_since(Instant::now()) {
                Some(left) if !left.is_zero() => std::thread::park_timeout(left),
                _ => return true,
            }
        }
    }
}

struct Checker {
    path: PathBuf,
    shared: Arc<Shared>,
}

impl Checker {
    fn run(&self) {
        let mut delay = STORE_DAMAGE_CHECK_DELAY;
        while self.shared.rest(delay) {
            self.check_once();
            delay = STORE_DAMAGE_CHECK_INTERVAL;
        }
    }

    fn check_once(&self) {
        let begun = Instant::now();
        match self.check() {
            Ok(None) => {
                if event::lock(&self.shared.damage).take().is_some() {
                    tracing::info!(file = %self.path.display(), "the last check found no damage in the database file");
                }
                tracing::debug!(
                    duration_ms = begun.elapsed().as_millis() as u64,
                    "checked the database file"
                );
            }
            Ok(Some(found)) => {
                let reason = format!(
                    "the database file `{}` is damaged: {found}. Stop the server and restore a backup with `millrace restore`. Without a backup, move the file and those beside it (`-wal`, `-shm`) away, and start again: the views are built from the log",
                    self.path.display()
                );
                tracing::error!(reason, "the store is damaged");
                event::lock(&self.shared.damage).replace(reason);
            }
            Err(_) if self.shared.stopped.load(Ordering::Relaxed) => {}
            Err(error) => {
                tracing::warn!(%error, file = %self.path.display(), "the database file could not be checked for damage");
            }
        }
    }

    /// Returns the first damage that is found, with its table.
    fn check(&self) -> rusqlite::Result<Option<String>> {
        let mut connection = match connection::open_for_reading(&self.path) {
            Ok(connection) => connection,
            Err(error) => return damage_of(error).map(Some),
        };
        let tables = match tables(&connection) {
            Ok(tables) => tables,
            Err(error) => return damage_of(error).map(Some),
        };
        for table in tables {
            if let Some(found) = self.check_table(&mut connection, &table)? {
                return Ok(Some(format!("table `{table}`: {found}")));
            }
        }
        Ok(None)
    }

    fn check_table(&self, connection: &mut Connection, table: &str) -> rusqlite::Result<Option<String>> {
        for _ in 0..TABLE_TRIES_MAX {
            self.shared.in_the_way.store(false, Ordering::Relaxed);
            connection.progress_handler(STEPS_BETWEEN_CALLS, Some(self.throttle()))?;
            match quick_check(connection, table) {
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
                    if !self.shared.rest(RETRY_DELAY) {
                        return Err(error);
                    }
                }
                Err(error) => return damage_of(error).map(Some),
                found => return found,
            }
        }
        tracing::info!(
            table,
            "too much is written to check the table for damage now; the next check tries it again"
        );
        Ok(None)
    }

    /// Returns the handler that SQLite calls while it checks a table. It rests most of the time. It returns true to end
    /// the check of this table.
    fn throttle(&self) -> impl FnMut() -> bool + Send + 'static {
        let shared = Arc::clone(&self.shared);
        let log = companion_file(&self.path, "-wal");
        let log_bytes = move || std::fs::metadata(&log).map_or(0, |file| file.len());
        let log_bytes_max = log_bytes() + LOG_GROWTH_BYTES_MAX;
        let mut working_since = Instant::now();
        move || {
            let worked = working_since.elapsed();
            if worked < WORK_DURATION_MAX {
                return false;
            }
            let goes_on = shared.rest(worked * REST_FACTOR);
            working_since = Instant::now();
            !goes_on || shared.in_the_way.load(Ordering::Relaxed) || log_bytes() > log_bytes_max
        }
    }
}

/// Returns the names of all tables; the last of them contains the schema.
fn tables(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL %' UNION ALL SELECT 'sqlite_schema'";
    let mut statement = connection.prepare(sql)?;
    let names = statement.query_map([], |row| row.get(0))?;
    names.collect()
}

fn quick_check(connection: &Connection, table: &str) -> rusqlite::Result<Option<String>> {
    let mut statement = connection.prepare(&format!("PRAGMA quick_check({})", quote(table)))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let found: String = row.get(0)?;
        // A rule of the user's that some rows do not meet is not damage.
        if found != "ok" && !found.starts_with("CHECK constraint failed") {
            return Ok(Some(found.lines().next().unwrap_or_default().to_owned()));
        }
    }
    Ok(None)
}

/// Returns the message of an error that means that pages are damaged or cannot be read. Other errors stay errors.
fn damage_of(error: rusqlite::Error) -> rusqlite::Result<String> {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::SystemIoFailure) => {
            Ok(error.to_string())
        }
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    const ROWS: i64 = 20_000;

    /// Returns a folder with a database of some megabytes whose write-ahead log is empty.
    fn filled() -> (tempfile::TempDir, Checker) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        let (connection, _) = connection::open_for_writing(&path).expect("opens");
        connection
            .execute_batch(&format!(
                "CREATE TABLE a (n INTEGER PRIMARY KEY, text TEXT);
                 CREATE TABLE b (n TEXT PRIMARY KEY, text TEXT CHECK (text <> '7')) WITHOUT ROWID;
                 WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})
                 INSERT INTO a SELECT i, hex(zeroblob(100)) FROM n;
                 INSERT INTO b SELECT n, text FROM a"
            ))
            .expect("filled");
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("a checkpoint");
        (folder, Checker { path, shared: Arc::default() })
    }

    #[test]
    fn a_flipped_byte_in_a_page_is_found_and_named_with_its_table() {
        for table in ["a", "b"] {
            let (_folder, checker) = filled();
            assert_eq!(checker.check(), Ok(None));
            let connection = connection::open_for_reading(&checker.path).expect("opens");
            let root = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
            let page: i64 = connection.query_row(root, [table], |row| row.get(0)).expect("a page");
            drop(connection);
            let file = std::fs::OpenOptions::new().read(true).write(true).open(&checker.path).expect("opens");
            let at = (page.unsigned_abs() - 1) * 4096 + 14;
            let mut bytes = [0; 2];
            file.read_exact_at(&mut bytes, at).expect("read");
            file.write_all_at(&bytes.map(|byte| byte ^ 0xff), at).expect("written");
            checker.check_once();
            let found = event::lock(&checker.shared.damage).clone().expect("damage");
            assert!(found.contains(&format!("table `{table}`: ")) && found.contains("a.db"), "{found}");
            file.write_all_at(&bytes, at).expect("written");
            checker.check_once();
            assert_eq!(*event::lock(&checker.shared.damage), None, "the file is in order again");
        }
    }

    #[test]
    fn a_file_that_is_no_longer_a_database_is_damaged() {
        let (_folder, checker) = filled();
        let file = std::fs::OpenOptions::new().write(true).open(&checker.path).expect("opens");
        file.write_all_at(&[0xff; 100], 0).expect("written");
        assert!(matches!(checker.check(), Ok(Some(_))));
    }

    #[test]
    fn a_row_that_does_not_meet_a_rule_of_the_user_is_not_damage() {
        let (_folder, checker) = filled();
        let connection = Connection::open(&checker.path).expect("opens");
        let sql = "PRAGMA ignore_check_constraints = ON; INSERT INTO b VALUES ('x', '7')";
        connection.execute_batch(sql).expect("inserted");
        assert_eq!(checker.check(), Ok(None));
    }

    #[test]
    fn a_check_rests_most_of_the_time_and_ends_soon_after_a_stop() {
        let (_folder, checker) = filled();
        let check = DamageCheck {
            shared: Arc::clone(&checker.shared),
            thread: Mutex::new(Some(std::thread::spawn(move || {
                let begun = Instant::now();
                let mut calls = 0;
                let mut throttle = checker.throttle();
                let mut ended = false;
                while !ended && begun.elapsed() < Duration::from_secs(30) {
                    let call = Instant::now();
                    while call.elapsed() < WORK_DURATION_MAX {
                        std::hint::spin_loop();
                    }
                    ended = throttle();
                    calls += 1;
                    // At least nine parts of ten are rest, however slow the machine is.
                    assert!(ended || begun.elapsed() >= WORK_DURATION_MAX * calls * 9);
                }
                assert!(ended, "the stop ends it");
            }))),
        };
        std::thread::sleep(Duration::from_millis(100));
        check.close();
    }

    #[test]
    fn a_table_is_given_up_if_the_log_grows_too_much_and_if_others_need_the_log_empty() {
        let (_folder, checker) = filled();
        let mut throttle = checker.throttle();
        std::thread::sleep(WORK_DURATION_MAX);
        assert!(!throttle(), "nothing is in the way");
        let log = companion_file(&checker.path, "-wal");
        let file = std::fs::File::create(&log).expect("a file");
        file.set_len(LOG_GROWTH_BYTES_MAX + 1).expect("grown");
        std::thread::sleep(WORK_DURATION_MAX);
        assert!(throttle());
        file.set_len(0).expect("emptied");
        let mut throttle = checker.throttle();
        checker.shared.in_the_way.store(true, Ordering::Relaxed);
        std::thread::sleep(WORK_DURATION_MAX);
        assert!(throttle());
    }
}

//! A copy of the database as it is at one moment, page by page, while the writer goes on. One read
//! transaction is held from the first page to the last: it keeps nobody from writing, and what is written
//! meanwhile waits in the write-ahead log.

use std::path::Path;

use event::limits::SNAPSHOT_STEP_PAGES;
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::connection;
use super::errors::classify;
use super::read_rows;
use crate::store::{POSITIONS_SQL, StoreError, ViewPosition, view_positions};

/// Writes the copy to `target`, which is not there yet, and answers the positions in it. `wanted` is asked
/// now and then whether to go on.
pub fn take(
    source: &Path,
    target: &Path,
    wanted: impl Fn() -> bool,
) -> Result<Vec<ViewPosition>, StoreError> {
    let source = connection::open_for_reading(source).map_err(classify)?;
    let mut copy = Connection::open(target).map_err(classify)?;
    // A copy that is cut off is thrown away: nothing has to survive in it.
    copy.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF").map_err(classify)?;
    source.execute_batch("BEGIN").map_err(classify)?;
    // The transaction takes its moment with the first read.
    let positions = view_positions(read_rows(&source, POSITIONS_SQL, &[]).map_err(classify)?)?;
    let backup = Backup::new(&source, &mut copy).map_err(classify)?;
    while wanted() {
        match backup.step(SNAPSHOT_STEP_PAGES).map_err(classify)? {
            StepResult::Done => return Ok(positions),
            StepResult::More => {}
            _ => return Err(StoreError::Transient("the store is locked".to_owned())),
        }
    }
    Err(StoreError::Closed)
}

/// How large the copy will be, or less.
pub fn bytes(source: &Path) -> Result<u64, StoreError> {
    let connection = connection::open_for_reading(source).map_err(classify)?;
    let number = |pragma| connection.query_row(pragma, [], |row| row.get::<_, i64>(0)).map_err(classify);
    Ok(number("PRAGMA page_count")?.unsigned_abs() * number("PRAGMA page_size")?.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    use super::*;

    const ROWS: i64 = 8_000;
    const PATIENCE: Duration = Duration::from_secs(30);

    /// Moves 1 from one row to another, again and again: the sum stays.
    fn move_about(writer: &Connection, moved: &AtomicU64, ended: &AtomicBool) {
        let mut row = 0;
        while !ended.load(Ordering::Relaxed) {
            let (from, to) = (row * 37 % ROWS, (row * 91 + 5) % ROWS);
            let moves = format!(
                "BEGIN; UPDATE t SET v = v - 1 WHERE id = {from}; UPDATE t SET v = v + 1 WHERE id = {to}; COMMIT"
            );
            writer.execute_batch(&moves).expect("moved");
            row += 1;
            moved.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_snapshot_is_of_one_moment_though_every_step_sees_new_writes() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, target) = (folder.path().join("a.db"), folder.path().join("b.db"));
        let (writer, _) = connection::open_for_writing(&path).expect("opens");
        let fill = format!(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, v INTEGER, more BLOB);
             WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS} - 1)
             INSERT INTO t SELECT i, 100, zeroblob(2000) FROM n"
        );
        writer.execute_batch(&fill).expect("filled");
        let (moved, ended) = (AtomicU64::new(0), AtomicBool::new(false));
        let steps = std::cell::Cell::new(0);
        std::thread::scope(|scope| {
            let (moved, ended) = (&moved, &ended);
            scope.spawn(move || move_about(&writer, moved, ended));
            let wanted = || {
                steps.set(steps.get() + 1);
                let (before, deadline) = (moved.load(Ordering::Relaxed), Instant::now() + PATIENCE);
                while moved.load(Ordering::Relaxed) == before && Instant::now() < deadline {
                    std::thread::yield_now();
                }
                // One that begins anew with every write would never end.
                steps.get() < 1_000
            };
            let taken = take(&path, &target, wanted);
            ended.store(true, Ordering::Relaxed);
            assert_eq!(taken, Ok(Vec::new()));
        });
        assert!(steps.get() >= 4, "{} steps", steps.get());
        let copy = Connection::open(&target).expect("opens");
        let one = |sql: &str| copy.query_row(sql, [], |row| row.get::<_, String>(0)).expect(sql);
        assert_eq!(one("PRAGMA integrity_check"), "ok");
        assert_eq!(one("SELECT CAST(SUM(v) AS TEXT) FROM t"), (ROWS * 100).to_string());
    }

    #[test]
    fn one_that_nobody_wants_any_more_ends() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        drop(connection::open_for_writing(&path).expect("opens"));
        assert_eq!(take(&path, &folder.path().join("b.db"), || false), Err(StoreError::Closed));
    }
}

//! Copies a consistent snapshot of the database page by page, while the writer continues. One read transaction stays
//! open from the first page to the last. It does not block writes: they stay in the write-ahead log meanwhile.

use std::path::Path;

use event::limits::SNAPSHOT_STEP_PAGES;
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::connection;
use super::errors::classify;
use super::read_rows;
use crate::store::stored_row::decoded;
use crate::store::{POSITIONS_SQL, StoreError, ViewPosition};

/// Writes the copy to `target`, a file that must not exist yet, and returns the views' positions in the copy. Calls
/// `wanted` before each step, and fails with `Closed` if it returns false.
pub fn take(
    source: &Path,
    target: &Path,
    wanted: impl Fn() -> bool,
) -> Result<Vec<ViewPosition>, StoreError> {
    let source = connection::open_for_reading(source).map_err(classify)?;
    let mut copy = Connection::open(target).map_err(classify)?;
    // An incomplete copy is discarded, so it does not have to survive a crash.
    copy.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF").map_err(classify)?;
    source.execute_batch("BEGIN").map_err(classify)?;
    // The transaction's snapshot begins with its first read.
    let rows = read_rows(&source, POSITIONS_SQL, &[]).map_err(classify)?;
    let positions =
        rows.into_iter().map(|row| decoded("millrace_positions", row)).collect::<Result<_, _>>()?;
    let backup = Backup::new(&source, &mut copy).map_err(classify)?;
    while wanted() {
        match backup.step(SNAPSHOT_STEP_PAGES).map_err(classify)? {
            StepResult::Done => return Ok(positions),
            StepResult::More => {}
            _ => return Err(StoreError::Transient("the database is locked".to_owned())),
        }
    }
    Err(StoreError::Closed)
}

/// Returns the expected size of the copy. The copy may be smaller.
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
    const DEADLINE: Duration = Duration::from_secs(30);

    /// Moves 1 from one row to another repeatedly. The sum of all rows stays the same.
    fn move_amounts(writer: &Connection, moved: &AtomicU64, ended: &AtomicBool) {
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
    fn a_snapshot_is_consistent_despite_writes_between_all_steps() {
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
            scope.spawn(move || move_amounts(&writer, moved, ended));
            let wanted = || {
                steps.set(steps.get() + 1);
                let (before, deadline) = (moved.load(Ordering::Relaxed), Instant::now() + DEADLINE);
                while moved.load(Ordering::Relaxed) == before && Instant::now() < deadline {
                    std::thread::yield_now();
                }
                // A copy that restarts at every write would never finish.
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
    fn a_snapshot_that_is_no_longer_wanted_ends() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        drop(connection::open_for_writing(&path).expect("opens"));
        assert_eq!(take(&path, &folder.path().join("b.db"), || false), Err(StoreError::Closed));
    }
}

//! A copy of the database as it is at one moment, page by page, while the writer goes on. One read
//! transaction is held from the first page to the last: it keeps nobody from writing, and what is written
//! meanwhile waits in the write-ahead log.

use std::path::Path;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::connection;
use super::errors::sorted;
use super::read_rows;
use crate::event::limits::SNAPSHOT_STEP_PAGES;
use crate::store::{POSITIONS_SQL, StoreError, ViewPosition, view_positions};

/// Writes the copy to `target`, which is not there yet, and answers the positions in it. `wanted` is asked
/// now and then whether to go on.
pub fn take(
    source: &Path,
    target: &Path,
    wanted: impl Fn() -> bool,
) -> Result<Vec<ViewPosition>, StoreError> {
    let source = connection::open_for_reading(source).map_err(sorted)?;
    let mut copy = Connection::open(target).map_err(sorted)?;
    // A copy that is cut off is thrown away: nothing has to survive in it.
    copy.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF").map_err(sorted)?;
    source.execute_batch("BEGIN").map_err(sorted)?;
    // The transaction takes its moment with the first read.
    let positions = view_positions(read_rows(&source, POSITIONS_SQL, &[]).map_err(sorted)?)?;
    let backup = Backup::new(&source, &mut copy).map_err(sorted)?;
    while wanted() {
        match backup.step(SNAPSHOT_STEP_PAGES).map_err(sorted)? {
            StepResult::Done => return Ok(positions),
            StepResult::More => {}
            _ => return Err(StoreError::Transient("the store is locked".to_owned())),
        }
    }
    Err(StoreError::Closed)
}

/// How large the copy will be, or less.
pub fn bytes(source: &Path) -> Result<u64, StoreError> {
    let connection = connection::open_for_reading(source).map_err(sorted)?;
    let number = |pragma| connection.query_row(pragma, [], |row| row.get::<_, i64>(0)).map_err(sorted);
    Ok(number("PRAGMA page_count")?.unsigned_abs() * number("PRAGMA page_size")?.unsigned_abs())
}

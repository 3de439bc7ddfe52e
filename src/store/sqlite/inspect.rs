//! Looks at a database file without changing it.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::commit_stamp::companion_file;
use super::connection;
use super::errors::classify;
use super::session::{SqliteSession, run};
use crate::store::tables::ViewTables;
use crate::store::{OpenError, StoreError, StoreInspection, rules};

/// Inspects the database at `path`. A missing file has no tables, so nothing can be wrong with them.
pub fn inspect(path: &Path, views: &[(String, ViewTables)]) -> Result<StoreInspection, OpenError> {
    let name = format!("sqlite:{}", path.display());
    let mut found = StoreInspection { name: name.clone(), ..StoreInspection::default() };
    if !path.exists() {
        return Ok(found);
    }
    found.exists = true;
    let refused = |error: StoreError| OpenError::Refused { name: name.clone(), reason: error.to_string() };
    let connection = open(path).map_err(|error| refused(classify(error)))?;
    for (view, tables) in views {
        let mut session = SqliteSession { connection: &connection };
        let faults = run(rules::view_faults(&mut session, view, tables)).map_err(&refused)?;
        found.faults.extend(faults.into_iter().map(|fault| (view.clone(), fault)));
    }
    Ok(found)
}

/// Opens the database for reading. Without a write-ahead log beside it no server is running, and SQLite would create
/// files even to read; `immutable` prevents that.
fn open(path: &Path) -> rusqlite::Result<Connection> {
    if companion_file(path, "-wal").exists() {
        return connection::open_for_reading(path);
    }
    let escaped = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(format!("file:{escaped}?immutable=1"), flags)
}

//! Checks that the files of an open database are still in place and have at least the expected size. SQLite continues
//! to write to a file that somebody moved, removed or cut, and that data is lost.

use std::cell::Cell;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};

use super::commit_stamp::{FRAME_HEADER_BYTES, WAL_HEADER_BYTES, companion_file};

/// The database's files, with the identity that each had when the database was opened.
pub struct Files {
    database: OpenFile,
    log: OpenFile,
    index: OpenFile,
    /// The sizes at the last check.
    last: Cell<Option<Sizes>>,
}

struct OpenFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl Files {
    /// Records the identity of each file. The database has to be open, so that all of its files exist.
    pub fn of(database: &Path) -> io::Result<Self> {
        // If `database` is a symbolic link, SQLite puts the other files next to the link's target.
        let real = database.canonicalize()?;
        let open = |path: PathBuf| look_up(&path).map(|(identity, _)| OpenFile { path, identity });
        Ok(Self {
            database: open(database.to_owned())?,
            log: open(companion_file(&real, "-wal"))?,
            index: open(companion_file(&real, "-shm"))?,
            last: Cell::new(None),
        })
    }

    /// Fails if a file was moved, removed, replaced or cut.
    pub fn expect_in_place(&self, connection: &Connection) -> Result<(), String> {
        let before = match Sizes::of(connection) {
            // Without its log, the database may be unreadable. The sizes of the last check tell what is missing.
            Err(error) if is_unreadable(&error) => self.last.get(),
            // If the database is busy, its sizes are checked the next time.
            sizes => sizes.ok(),
        };
        let database_bytes = self.database.expect_in_place()?;
        let log_bytes = self.log.expect_in_place()?;
        self.index.expect_in_place()?;
        // If another program wrote meanwhile, both the files and their expected sizes have changed.
        let unchanged = |before: &Sizes| match Sizes::of(connection) {
            Ok(after) => after == *before,
            Err(error) => is_unreadable(&error),
        };
        let Some(sizes) = before.filter(unchanged) else { return Ok(()) };
        self.last.set(Some(sizes));
        if log_bytes.is_some_and(|bytes| bytes < sizes.log_bytes_min()) {
            // Otherwise SQLite would copy the rest of the log into the database when it closes.
            let _ = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
            return Err(self.log.was("cut short"));
        }
        if database_bytes.is_some_and(|bytes| bytes < sizes.database_bytes_min()) {
            return Err(self.database.was("cut short"));
        }
        Ok(())
    }
}

fn is_unreadable(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
}

/// The sizes that SQLite expects its files to have.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Sizes {
    /// Frames of the write-ahead log that are in use.
    frames: u64,
    /// Frames that are already copied into the database.
    copied: u64,
    pages: u64,
    page_bytes: u64,
}

impl Sizes {
    fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let number = |row: &rusqlite::Row<'_>, column| {
            row.get::<_, i64>(column).map(|number| number.max(0).unsigned_abs())
        };
        let (frames, copied) = connection
            .query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| Ok((number(row, 1)?, number(row, 2)?)))?;
        let pages = connection.query_row("PRAGMA page_count", [], |row| number(row, 0))?;
        let page_bytes = connection.query_row("PRAGMA page_size", [], |row| number(row, 0))?;
        Ok(Self { frames, copied, pages, page_bytes })
    }

    fn log_bytes_min(self) -> u64 {
        match self.frames {
            0 => 0,
            frames => WAL_HEADER_BYTES as u64 + frames * (FRAME_HEADER_BYTES as u64 + self.page_bytes),
        }
    }

    /// Returns 0 while some pages exist only in the log: the file's size is uncertain then.
    fn database_bytes_min(self) -> u64 {
        if self.copied == self.frames { self.pages * self.page_bytes } else { 0 }
    }
}

impl OpenFile {
    /// Returns the file's size, or `None` if it cannot be read at the moment.
    fn expect_in_place(&self) -> Result<Option<u64>, String> {
        match look_up(&self.path) {
            Ok((identity, bytes)) if identity == self.identity => Ok(Some(bytes)),
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            _ => Err(self.was("moved, removed or replaced")),
        }
    }

    fn was(&self, harmed: &str) -> String {
        format!("`{}` was {harmed} while the server was using it", self.path.display())
    }
}

fn look_up(path: &Path) -> io::Result<((u64, u64), u64)> {
    std::fs::metadata(path).map(|data| ((data.dev(), data.ino()), data.len()))
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::super::connection::open_for_writing;
    use super::*;

    fn opened(folder: &Path) -> (PathBuf, Connection, Files) {
        let path = folder.join("a.db");
        let (connection, _) = open_for_writing(&path).expect("opens");
        let fill = "CREATE TABLE t (a); WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 50) INSERT INTO t SELECT zeroblob(4000) FROM n";
        connection.execute_batch(fill).expect("filled");
        let files = Files::of(&path).expect("files");
        (path, connection, files)
    }

    fn checkpoint(connection: &Connection, mode: &str) {
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        connection.query_row(&sql, [], |_| Ok(())).expect("a checkpoint");
    }

    #[test]
    fn changes_that_sqlite_itself_makes_are_accepted() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, connection, files) = opened(folder.path());
        let fine = |what: &str| assert_eq!(files.expect_in_place(&connection), Ok(()), "{what}");
        fine("filled");
        let noop = "PRAGMA wal_checkpoint(NOOP)";
        let copied: i64 = connection.query_row(noop, [], |row| row.get(2)).expect("a row");
        assert_eq!(copied, 0, "the check copies nothing into the database");
        for mode in ["PASSIVE", "RESTART", "TRUNCATE"] {
            checkpoint(&connection, mode);
            fine(mode);
            connection.execute_batch("INSERT INTO t VALUES (1)").expect("inserted");
            fine(mode);
        }
        let other = Connection::open(&path).expect("opens");
        other.execute_batch("DELETE FROM t; VACUUM").expect("smaller");
        fine("vacuumed");
        checkpoint(&other, "TRUNCATE");
        fine("emptied by another connection");
        connection.execute_batch("INSERT INTO t VALUES (1)").expect("inserted");
        fine("used again");
    }

    #[test]
    fn a_file_that_was_cut_short_is_named() {
        for suffix in ["", "-wal"] {
            let folder = tempfile::tempdir().expect("a folder");
            let (path, connection, files) = opened(folder.path());
            if suffix.is_empty() {
                checkpoint(&connection, "PASSIVE");
            }
            assert_eq!(files.expect_in_place(&connection), Ok(()));
            let cut = companion_file(&path, suffix);
            OpenOptions::new().write(true).open(&cut).expect("opens").set_len(4096).expect("cut");
            let reason = files.expect_in_place(&connection).expect_err("cut");
            assert!(
                reason.contains(cut.to_str().expect("a name")) && reason.contains("cut short"),
                "{reason}"
            );
        }
    }
}

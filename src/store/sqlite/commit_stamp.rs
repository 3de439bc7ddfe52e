//! A stamp that every transaction of millrace writes. Stamps show whether a database file and a write-ahead log (WAL)
//! belong together.
//!
//! SQLite applies any log that it finds next to the file. If somebody restores an older file and leaves the log of a
//! newer one in place, SQLite mixes pages of both, and none of its own checks detects that. Each stamp names the one
//! before it, so the first stamp in the log follows the one in the file. If SQLite has already copied some of the
//! log's pages into the file, the file's stamp is one of those in the log.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use memchr::memmem;
use rusqlite::{Connection, OpenFlags};

/// Marks every page that contains a stamp. It is not valid UTF-8, so no text column can contain it.
const MAGIC: &[u8; 16] = b"millrace\xff\x00stamp\xff";
/// Sizes in SQLite's WAL format.
pub const WAL_HEADER_BYTES: usize = 32;
pub const FRAME_HEADER_BYTES: usize = 24;
const WAL_MAGIC: u32 = 0x377f_0682;

/// A random id of the process's run, and the number of the transaction in that run.
type Stamp = [u8; 16];

/// The value before the first stamp is written.
const NONE: Stamp = [0; 16];

/// Writes the stamps of one process.
pub struct Stamper {
    run: [u8; 8],
    number: u64,
}

/// Creates the table with its single row, if it does not exist.
pub fn make_table(connection: &Connection) -> rusqlite::Result<()> {
    // The page stores the three values next to each other, in this order.
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS millrace_commit (id INTEGER PRIMARY KEY, magic BLOB NOT NULL, previous BLOB NOT NULL, current BLOB NOT NULL)",
    )?;
    let sql = "INSERT OR IGNORE INTO millrace_commit VALUES (0, ?1, ?2, ?2)";
    connection.execute(sql, rusqlite::params![MAGIC, NONE]).map(drop)
}

impl Stamper {
    pub fn new() -> io::Result<Self> {
        let mut run = [0; 8];
        getrandom::fill(&mut run).map_err(io::Error::other)?;
        Ok(Self { run, number: 0 })
    }

    /// Writes the next stamp in the open transaction.
    pub fn stamp(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.number += 1;
        let mut stamp = NONE;
        stamp[..8].copy_from_slice(&self.run);
        stamp[8..].copy_from_slice(&self.number.to_le_bytes());
        let sql = "UPDATE millrace_commit SET previous = current, current = ?1 WHERE id = 0";
        connection.prepare_cached(sql)?.execute([stamp]).map(drop)
    }
}

/// Fails if the write-ahead log next to a database file belongs to another file. Must be called before SQLite opens
/// the file, because SQLite would copy the log into it.
pub fn expect_own_log(database: &Path) -> Result<(), String> {
    let database = &database.canonicalize().unwrap_or_else(|_| database.to_owned());
    let log = companion_file(database, "-wal");
    let read = || stamps_in(&log).map_err(|error| format!("`{}` cannot be read: {error}", log.display()));
    let (stamps, in_file) = (read()?, stamp_in(database));
    if belongs(&stamps, in_file.as_ref().ok()) {
        return Ok(());
    }
    // The values differ if another program is writing to the database at the same time.
    if read()? != stamps || stamp_in(database).ok() != in_file.ok() {
        return Ok(());
    }
    Err(format!(
        "`{file}` and `{log}` do not belong together: the database file was replaced by another copy, but the write-ahead log of the previous file is still there. Opening them together would corrupt the database. To use this copy, move `{log}` and `{shm}` away and start again; the views catch up from the server's log",
        file = database.display(),
        log = log.display(),
        shm = companion_file(database, "-shm").display(),
    ))
}

/// Returns whether the log's stamps fit the file's stamp. Accepts a file whose stamp cannot be read: the process may
/// have been killed while SQLite copied pages into the file.
fn belongs(stamps: &[(Stamp, Stamp)], in_file: Option<&Stamp>) -> bool {
    let (Some((before_first, _)), Some(in_file)) = (stamps.first(), in_file) else { return true };
    in_file == before_first || stamps.iter().any(|(_, stamp)| stamp == in_file)
}

/// Returns the path of a file that SQLite keeps next to the database, such as `-wal` or `-shm`.
pub fn companion_file(database: &Path, suffix: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Returns the stamp in the database file, ignoring the write-ahead log.
fn stamp_in(database: &Path) -> rusqlite::Result<Stamp> {
    let mut url = "file:".to_owned();
    for byte in database.as_os_str().as_encoded_bytes() {
        url.push_str(&format!("%{byte:02x}"));
    }
    url.push_str("?immutable=1");
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(url, flags)?;
    let sql = "SELECT current FROM millrace_commit WHERE id = 0";
    match connection.query_row(sql, [], |row| row.get(0)) {
        // The database has no stamp yet. The table and its row are created together.
        Err(error) if error.to_string().contains("no such table") => Ok(NONE),
        found => found,
    }
}

/// Returns the stamps in a write-ahead log, oldest first, each with the one before it. Like SQLite, this stops at the
/// last commit: later frames belong to an interrupted transaction, or to an earlier use of the log file.
fn stamps_in(log: &Path) -> io::Result<Vec<(Stamp, Stamp)>> {
    let mut file = match File::open(log) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        file => BufReader::with_capacity(1 << 20, file?),
    };
    let (mut stamps, mut committed) = (Vec::new(), 0);
    let mut header = [0; WAL_HEADER_BYTES];
    if !filled(&mut file, &mut header)? {
        return Ok(stamps);
    }
    let (magic, page_bytes) = (number_at(&header, 0), number_at(&header, 8) as usize);
    let mut checksum = Checksum { big_endian: magic & 1 == 1, sums: [0, 0] };
    checksum.add(&header[..24]);
    let is_wal = magic & !1 == WAL_MAGIC && page_bytes.is_power_of_two() && page_bytes <= 65_536;
    if !is_wal || checksum.sums != [number_at(&header, 24), number_at(&header, 28)] {
        // SQLite ignores such a log too.
        return Ok(stamps);
    }
    let finder = memmem::Finder::new(MAGIC);
    let mut frame = vec![0; FRAME_HEADER_BYTES + page_bytes];
    while filled(&mut file, &mut frame)? && frame[8..16] == header[16..24] {
        let page = &frame[FRAME_HEADER_BYTES..];
        checksum.add(&frame[..8]);
        checksum.add(page);
        if checksum.sums != [number_at(&frame, 16), number_at(&frame, 20)] {
            break;
        }
        let stamp_at = |at: usize| page.get(at..at + 16).and_then(|bytes| bytes.try_into().ok());
        if let Some(at) = finder.find(page)
            && let (Some(previous), Some(current)) = (stamp_at(at + 16), stamp_at(at + 32))
        {
            stamps.push((previous, current));
        }
        // The last frame of a transaction contains the database size after the commit; other frames contain 0.
        if number_at(&frame, 4) != 0 {
            committed = stamps.len();
        }
    }
    stamps.truncate(committed);
    Ok(stamps)
}

fn number_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The running checksum of a write-ahead log.
struct Checksum {
    big_endian: bool,
    sums: [u32; 2],
}

impl Checksum {
    /// Adds `bytes`, whose length must be a multiple of eight.
    fn add(&mut self, bytes: &[u8]) {
        let [mut one, mut two] = self.sums;
        for pair in bytes.chunks_exact(8) {
            let (first, second) = (number_at(pair, 0), number_at(pair, 4));
            let [first, second] =
                if self.big_endian { [first, second] } else { [first.swap_bytes(), second.swap_bytes()] };
            one = one.wrapping_add(first).wrapping_add(two);
            two = two.wrapping_add(second).wrapping_add(one);
        }
        self.sums = [one, two];
    }
}

/// Fills `bytes` from the file. Returns false if the file ends before that.
fn filled(file: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(bytes) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        outcome => outcome.map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::connection::open_for_writing;
    use super::*;

    /// A database that a killed process leaves behind: the tests copy its files while it is open.
    struct Server {
        folder: tempfile::TempDir,
        connection: Connection,
        stamper: Stamper,
    }

    impl Server {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let (connection, stamper) = open_for_writing(&folder.path().join("a.db")).expect("opens");
            connection.execute_batch("CREATE TABLE t (a INTEGER)").expect("a table");
            Self { folder, connection, stamper }
        }

        fn write(&mut self, values: std::ops::Range<u32>) {
            for value in values {
                self.connection.execute_batch("BEGIN IMMEDIATE").expect("begins");
                self.connection.execute("INSERT INTO t VALUES (?1)", [value]).expect("inserts");
                self.stamper.stamp(&self.connection).expect("stamps");
                self.connection.execute_batch("COMMIT").expect("commits");
            }
        }

        fn checkpoint(&self, mode: &str) {
            let sql = format!("PRAGMA wal_checkpoint({mode})");
            self.connection.query_row(&sql, [], |_| Ok(())).expect("a checkpoint");
        }

        /// Copies the current content of one of the files into another folder.
        fn copy(&self, suffix: &str, to: &Path) {
            let from = companion_file(&self.folder.path().join("a.db"), suffix);
            fs::copy(from, companion_file(&to.join("a.db"), suffix)).expect("copied");
        }
    }

    #[test]
    fn a_file_and_its_own_log_are_always_accepted() {
        let mut server = Server::new();
        let left = tempfile::tempdir().expect("a folder");
        for round in 0..4 {
            for mode in [None, Some("PASSIVE"), Some("RESTART"), Some("TRUNCATE")] {
                mode.into_iter().for_each(|mode| server.checkpoint(mode));
                server.write(0..round);
                server.copy("", left.path());
                server.copy("-wal", left.path());
                assert_eq!(expect_own_log(&left.path().join("a.db")), Ok(()), "{round} {mode:?}");
                // The log of the next transaction, next to the file from before it.
                server.write(0..1);
                server.copy("-wal", left.path());
                assert_eq!(expect_own_log(&left.path().join("a.db")), Ok(()), "{round} {mode:?}");
            }
        }
        // VACUUM moves the stamp to another page.
        server.connection.execute_batch("VACUUM").expect("vacuumed");
        server.write(0..2);
        server.copy("", left.path());
        server.copy("-wal", left.path());
        assert_eq!(expect_own_log(&left.path().join("a.db")), Ok(()));
    }

    #[test]
    fn a_log_that_ends_within_a_transaction_is_accepted() {
        let mut server = Server::new();
        let left = tempfile::tempdir().expect("a folder");
        let (path, log) = (left.path().join("a.db"), companion_file(&left.path().join("a.db"), "-wal"));
        server.write(0..9);
        server.checkpoint("RESTART");
        // The log is reused: its first frames are new, and the frames after them are from the previous use.
        server.write(9..11);
        server.copy("", left.path());
        server.copy("-wal", left.path());
        let whole = fs::read(&log).expect("a log");
        let page_bytes = number_at(&whole, 8) as usize;
        let frame = FRAME_HEADER_BYTES + page_bytes;
        let used = stamps_in(&log).expect("stamps").len();
        assert_eq!(used, 2);
        for cut in 1..6 {
            // A frame's header is written, but its page is still from the previous use.
            let mut torn = whole.clone();
            let page = WAL_HEADER_BYTES + (cut - 1) * frame + FRAME_HEADER_BYTES;
            torn[page..page + page_bytes].fill(7);
            torn[page..page + MAGIC.len()].copy_from_slice(MAGIC);
            fs::write(&log, &torn).expect("written");
            assert_eq!(expect_own_log(&path), Ok(()), "frame {cut}");
            assert!(stamps_in(&log).expect("stamps").len() <= used);
            fs::write(&log, &whole[..page]).expect("written");
            assert_eq!(expect_own_log(&path), Ok(()), "cut in frame {cut}");
        }
    }

    #[test]
    fn an_older_or_newer_file_is_refused_with_a_log_and_accepted_without_one() {
        let mut server = Server::new();
        let left = tempfile::tempdir().expect("a folder");
        let path = left.path().join("a.db");
        server.write(0..3);
        server.checkpoint("TRUNCATE");
        server.copy("", left.path());
        server.write(3..6);
        server.copy("-wal", left.path());
        assert_eq!(expect_own_log(&path), Ok(()), "the log of the next transactions");
        server.checkpoint("RESTART");
        server.write(6..9);
        server.copy("-wal", left.path());
        let refusal = expect_own_log(&path).expect_err("an older file");
        assert!(refusal.contains("do not belong together") && refusal.contains("a.db-shm"), "{refusal}");
        fs::remove_file(companion_file(&path, "-wal")).expect("removed");
        assert_eq!(expect_own_log(&path), Ok(()));
        server.copy("-wal", left.path());
        server.checkpoint("TRUNCATE");
        server.write(9..12);
        server.checkpoint("TRUNCATE");
        server.copy("", left.path());
        expect_own_log(&path).expect_err("a newer file");
    }

    #[test]
    fn the_log_of_a_diverged_copy_is_refused_although_its_stamp_numbers_are_equal() {
        let mut server = Server::new();
        let other = tempfile::tempdir().expect("a folder");
        server.write(0..2);
        server.checkpoint("TRUNCATE");
        server.copy("", other.path());
        // Both databases continue separately, with the same number of transactions.
        let (connection, stamper) = open_for_writing(&other.path().join("a.db")).expect("opens");
        let mut second = Server { folder: other, connection, stamper };
        for one in [&mut server, &mut second] {
            one.write(2..6);
            one.checkpoint("PASSIVE");
            one.write(6..9);
        }
        let left = tempfile::tempdir().expect("a folder");
        server.copy("", left.path());
        second.copy("-wal", left.path());
        expect_own_log(&left.path().join("a.db")).expect_err("the log of the other copy");
    }

    #[test]
    fn a_file_that_is_not_a_log_is_left_to_sqlite() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a ?#%.db");
        assert_eq!(expect_own_log(&path), Ok(()), "no files");
        for bytes in [&b""[..], b"short", &[7; 5_000]] {
            fs::write(companion_file(&path, "-wal"), bytes).expect("written");
            assert_eq!(expect_own_log(&path), Ok(()));
        }
        fs::remove_file(companion_file(&path, "-wal")).expect("removed");
        drop(open_for_writing(&path).expect("opens"));
        assert!(stamp_in(&path).is_ok_and(|stamp| stamp != NONE), "unusual file names work");
    }
}

//! Opens connections with the settings that durability needs: a write-ahead log, full sync, and an SQLite version
//! without the bug that can corrupt the file when that log is reset.

use std::path::Path;

use event::limits::BUSY_DURATION_MAX;
use rusqlite::{Connection, OpenFlags};

use super::commit_stamp::{self, Stamper};
use super::{counts, decimal_sql, statements};
use crate::store::millrace_tables::{OWN_INDEXES, SCHEMA_VERSION, own_tables};

use crate::store::tables::{Table, quote};

const VERSION_MIN: i32 = 3_051_003;
const WRITER_CACHE_KIB: i64 = 32 * 1024;
const READER_CACHE_KIB: i64 = 2 * 1024;
/// The number of pages in the write-ahead log before a checkpoint. More pages make bursts of writes cheaper.
const CHECKPOINT_PAGES: i64 = 4_000;
const STATEMENTS_CACHED_MAX: usize = 128;
/// The number of SQLite virtual machine steps (about ten rows) after which the writer yields its CPU. Reads can
/// therefore run while a large batch is written.
const STEPS_BETWEEN_YIELDS: i32 = 500;

/// Opens the database for the writer, and creates the stamper of its transactions.
pub fn open_for_writing(path: &Path) -> Result<(Connection, Stamper), String> {
    if rusqlite::version_number() < VERSION_MIN {
        return Err(format!(
            "SQLite {} can corrupt its database file; millrace needs 3.51.3 or later",
            rusqlite::version()
        ));
    }
    commit_stamp::expect_own_log(path)?;
    let mut connection = Connection::open(path).map_err(|error| error.to_string())?;
    set_up_writer(&mut connection).map_err(|error| error.to_string())?;
    let mode: String = connection
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .map_err(|error| error.to_string())?;
    if mode != "wal" {
        return Err(format!(
            "SQLite uses `journal_mode = {mode}`, but `wal` is needed; check that the file is not on a network file system"
        ));
    }
    let mut stamper = Stamper::new().map_err(|error| error.to_string())?;
    make_own_tables(&connection, &mut stamper)?;
    Ok((connection, stamper))
}

fn set_up_writer(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_DURATION_MAX)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED_MAX);
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    // Overwrites deleted data: erasing a person has to remove the bytes.
    connection.pragma_update(None, "secure_delete", "ON")?;
    // A user's SQL views may name a table that millrace replaces. Without this setting, SQLite checks the views at a
    // rename, and refuses the rename because the table is missing at that moment.
    connection.pragma_update(None, "legacy_alter_table", "ON")?;
    let yield_and_continue = || {
        std::thread::yield_now();
        false
    };
    connection.progress_handler(STEPS_BETWEEN_YIELDS, Some(yield_and_continue))?;
    counts::install(connection)?;
    decimal_sql::install(connection)
}

pub fn open_for_reading(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(BUSY_DURATION_MAX)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED_MAX);
    connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    decimal_sql::install(&connection)?;
    Ok(connection)
}

/// Creates millrace's own tables. Runs under one lock, so that two processes that start at the same time do not see
/// half a schema. Existing tables and columns stay unchanged.
fn make_own_tables(connection: &Connection, stamper: &mut Stamper) -> Result<(), String> {
    let found = create_own_tables(connection, stamper).map_err(|error| error.to_string())?;
    if found > SCHEMA_VERSION {
        Err(format!(
            "its schema version is {found}, but this millrace supports only versions up to {SCHEMA_VERSION}; use a newer millrace"
        ))
    } else {
        Ok(())
    }
}

/// Creates or upgrades the tables, and returns the schema version that was found. Changes nothing if it is newer.
fn create_own_tables(connection: &Connection, stamper: &mut Stamper) -> rusqlite::Result<i64> {
    connection.execute_batch(
        "BEGIN IMMEDIATE; CREATE TABLE IF NOT EXISTS millrace_meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
    )?;
    connection.execute("INSERT OR IGNORE INTO millrace_meta VALUES ('schema', ?1)", [SCHEMA_VERSION])?;
    let sql = "SELECT value FROM millrace_meta WHERE name = 'schema'";
    let found: i64 = connection.query_row(sql, [], |row| row.get(0))?;
    if found <= SCHEMA_VERSION {
        commit_stamp::make_table(connection)?;
        for table in own_tables() {
            connection.execute_batch(&statements::create_table(&table, true))?;
            if found < SCHEMA_VERSION {
                add_missing_columns(connection, &table)?;
            }
        }
        for (name, table, columns) in OWN_INDEXES {
            let columns = columns.join(", ");
            connection.execute_batch(&format!("CREATE INDEX IF NOT EXISTS {name} ON {table} ({columns})"))?;
        }
        connection.execute("UPDATE millrace_meta SET value = ?1 WHERE name = 'schema'", [SCHEMA_VERSION])?;
        stamper.stamp(connection)?;
    }
    connection.execute_batch("COMMIT")?;
    Ok(found)
}

/// Adds the columns that an earlier schema version did not have.
fn add_missing_columns(connection: &Connection, table: &Table) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("SELECT name FROM pragma_table_info(?1)")?;
    let existing: Vec<String> =
        statement.query_map([&table.name], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for column in table.columns.iter().filter(|column| !existing.contains(&column.name)) {
        let (table, column) = (quote(&table.name), statements::column(column));
        connection.execute_batch(&format!("ALTER TABLE {table} ADD COLUMN {column}"))?;
    }
    Ok(())
}

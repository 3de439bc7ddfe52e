//! Hand-written loops that do the work of a view and of a source on one thread: typed parse, fold in a hash map,
//! upsert into SQLite, append to a file. They check nothing, claim nothing, and can lose data.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use rusqlite::Connection;
use serde::Deserialize;

use crate::Outcome;
use crate::events::expect_balances;

/// The number of events per transaction, the same as in millrace's views when they are behind.
pub const BATCH_EVENTS: usize = 32_768;
/// The number of lines per sync, the same as in millrace.
const CHUNK_LINES: usize = 1_000;

#[derive(Deserialize)]
struct Sale<'a> {
    #[serde(rename = "userId")]
    user: &'a str,
    name: &'a str,
    value: f64,
}

/// Parses every line. Returns the sum of the values, so that the compiler cannot remove the work.
pub fn parse(lines: &str) -> Outcome<f64> {
    let mut sum = 0.0;
    for line in Lines(lines) {
        let sale: Sale<'_> = serde_json::from_str(line)?;
        sum += sale.value + (sale.user.len() + sale.name.len()) as f64;
    }
    Ok(sum)
}

/// An iterator over lines that finds line ends with `memchr`.
struct Lines<'a>(&'a str);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let end = memchr::memchr(b'\n', self.0.as_bytes())?;
        let (line, rest) = (&self.0[..end], &self.0[end + 1..]);
        self.0 = rest;
        Some(line)
    }
}

/// Opens a database with millrace's settings. Balances are integers, in hundredths.
pub fn database(path: &Path) -> Outcome<Connection> {
    let connection = Connection::open(path)?;
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -32 * 1024)?;
    connection.pragma_update(None, "wal_autocheckpoint", 4_000)?;
    connection.execute_batch(
        "CREATE TABLE balances (user TEXT PRIMARY KEY, balance INTEGER NOT NULL) WITHOUT ROWID",
    )?;
    Ok(connection)
}

/// Parses, folds and upserts sales.
pub fn ledger(lines: &str, connection: &Connection) -> Outcome<()> {
    let mut lines = Lines(lines);
    loop {
        let mut sums: HashMap<&str, i64> = HashMap::new();
        let mut events = 0;
        for line in lines.by_ref().take(BATCH_EVENTS) {
            let sale: Sale<'_> = serde_json::from_str(line)?;
            add(&mut sums, &sale);
            events += 1;
        }
        if events == 0 {
            return Ok(());
        }
        upsert(connection, &mut sums)?;
    }
}

/// Inserts rows with one prepared statement.
pub fn rows(rows: &[[String; 5]], connection: &Connection) -> Outcome<()> {
    connection.execute_batch(
        "CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, site_id TEXT NOT NULL, event_type TEXT NOT NULL, \
         path TEXT, user_id TEXT, timestamp TEXT)",
    )?;
    let sql =
        "INSERT INTO events (site_id, event_type, path, user_id, timestamp) VALUES (?1, ?2, ?3, ?4, ?5)";
    for batch in rows.chunks(BATCH_EVENTS) {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        let mut statement = connection.prepare_cached(sql)?;
        for [site, kind, path, user, time] in batch {
            statement.execute((site, kind, path, user, time))?;
        }
        drop(statement);
        connection.execute_batch("COMMIT")?;
    }
    Ok(())
}

/// Parses sales, appends them with a sync per 1,000 lines, folds and upserts them.
pub fn send(lines: &str, file: &Path, connection: &Connection) -> Outcome<()> {
    let mut file = std::fs::File::create(file)?;
    let mut sums: HashMap<&str, i64> = HashMap::new();
    let (mut chunk, mut begin, mut at, mut events) = (0, 0, 0, 0);
    for line in Lines(lines) {
        let sale: Sale<'_> = serde_json::from_str(line)?;
        add(&mut sums, &sale);
        at += line.len() + 1;
        chunk += 1;
        events += 1;
        if chunk == CHUNK_LINES || at == lines.len() {
            file.write_all(&lines.as_bytes()[begin..at])?;
            file.sync_data()?;
            (begin, chunk) = (at, 0);
        }
        if events == BATCH_EVENTS || at == lines.len() {
            upsert(connection, &mut sums)?;
            events = 0;
        }
    }
    Ok(())
}

fn add<'a>(sums: &mut HashMap<&'a str, i64>, sale: &Sale<'a>) {
    let hundredths = (sale.value * 100.0).round() as i64;
    *sums.entry(sale.user).or_default() += if sale.name == "add_revenue" { hundredths } else { -hundredths };
}

/// Upserts in the order of the keys, which is faster.
fn upsert(connection: &Connection, sums: &mut HashMap<&str, i64>) -> Outcome<()> {
    let mut rows: Vec<(&str, i64)> = sums.drain().collect();
    rows.sort_unstable();
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let sql = "INSERT INTO balances VALUES (?1, ?2) ON CONFLICT (user) DO UPDATE SET balance = balance + excluded.balance";
    let mut statement = connection.prepare_cached(sql)?;
    for row in rows {
        statement.execute(row)?;
    }
    drop(statement);
    connection.execute_batch("COMMIT")?;
    Ok(())
}

pub fn check_balances(connection: &Connection, right: &[i64]) -> Outcome<()> {
    let mut statement = connection.prepare("SELECT user, balance FROM balances")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
    let found = rows.collect::<Result<_, _>>()?;
    expect_balances(&found, right).map_err(|_| "the yardstick's balances are wrong".into())
}

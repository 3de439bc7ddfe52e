//! One row per event from the log into SQLite, by one table view alone and by one of all default views on the same
//! stream. Compared with a bare prepared-statement loop.

use std::path::Path;
use std::time::Instant;

use super::anew::{ALL_PRESETS, caught_up, delete_store, filled};
use crate::Outcome;
use crate::events::{Spread, visit_parts, visits};
use crate::servers::Folder;
use crate::setting::Setting;
use crate::table::{Rounds, Table};
use crate::yardstick;

const ROUNDS: usize = 5;
pub const EVENTS: u64 = 1_000_000;
pub const SPREAD: Spread = Spread { sites: 100, paths: 1_000, users: 10_000, events: EVENTS };
const SHARE_ALONE: f64 = 0.6;
const SHARE_OF_ALL: f64 = 0.35;

/// A configuration with a stream like `site_events` and only a table view.
pub const ALONE: &str = r#"
[stream.visits]
key = "site_id"
fields.site_id = { type = "text", required = true, max = 255 }
fields.event_type = { type = "text", required = true, max = 100 }
fields.path = { type = "text", max = 255 }
fields.user_id = { type = "text", max = 255 }
fields.timestamp = { type = "time" }

[view.visits]
kind = "table"
from = "visits"
table = "visits"
id_column = "id"
"#;

pub fn measure(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let lines = visits(0..EVENTS, SPREAD);
    let made: Vec<[String; 5]> = (0..EVENTS).map(row).collect();
    let [mut alone, mut all, mut bare] = <[Rounds; 3]>::default();
    for _ in 0..ROUNDS {
        bare.push(by_hand(&made, &setting.folder)?);
        alone.push(drain(setting, ALONE, &lines, ["visits"; 3])?);
        all.push(drain(setting, ALL_PRESETS, &lines, ["site_events", "site_events", "events"])?);
    }
    table.ratio(
        "rows from the log into SQLite, compared with a bare prepared-statement loop",
        &alone,
        &bare,
        SHARE_ALONE,
    );
    table.ratio("the same rows while all views of the default configuration run", &all, &bare, SHARE_OF_ALL);
    table.figure("rows, millrace, one view", &alone, "rows/s");
    table.figure("rows, millrace, all default views", &all, "rows/s");
    table.figure("rows, bare loop", &bare, "rows/s");
    table.note(
        "Rows: 1,000,000 visits to 100 sites (1,000 paths, 10,000 users, over 28 days in the order of time) \
         are in the log. The time runs from the start of the table view to its last row. The bare loop \
         inserts the same rows on one thread, with the same SQLite and settings. The rows exist beforehand, \
         so nothing is parsed. It uses one prepared statement and 32,768 rows per transaction.",
    );
    Ok(())
}

fn row(number: u64) -> [String; 5] {
    let [site, path, user, day] = visit_parts(number, SPREAD);
    [
        format!("site-{site}"),
        "page_view".to_owned(),
        format!("/page/{path}"),
        format!("user-{user}"),
        format!("2025-11-{day:02} 10:00:00"),
    ]
}

/// Fills a log, deletes the store, and measures the view that starts again from the log. Returns rows per second.
fn drain(setting: &Setting, config: &str, lines: &str, [stream, view, rows]: [&str; 3]) -> Outcome<f64> {
    let program = &setting.build().path;
    let folder = filled(program, &setting.folder, config, stream, lines)?;
    delete_store(&folder)?;
    let (seconds, server) = caught_up(program, folder, "the table view", view)?;
    let count = format!("SELECT COUNT(*) FROM {rows}");
    let found: i64 = server.database()?.query_row(&count, [], |row| row.get(0))?;
    if found as u64 != EVENTS {
        return Err(format!("{found} rows, not {EVENTS}").into());
    }
    server.settle()?;
    server.stop()?;
    Ok(EVENTS as f64 / seconds)
}

fn by_hand(rows: &[[String; 5]], above: &Path) -> Outcome<f64> {
    let folder = Folder::new(above, "by-hand")?;
    let database = yardstick::database(&folder.path().join("rows.db"))?;
    let begun = Instant::now();
    yardstick::rows(rows, &database)?;
    Ok(EVENTS as f64 / begun.elapsed().as_secs_f64())
}

//! A ledger from the log into SQLite, by a view that starts at the beginning of the log, compared with a hand-written
//! loop on one thread.

use std::path::Path;
use std::time::Instant;

use super::anew::delete_store;
use crate::Outcome;
use crate::events::{balances, lines};
use crate::servers::Folder;
use crate::servers::millrace::Millrace;
use crate::setting::Setting;
use crate::table::{Rounds, Table};
use crate::yardstick;

const ROUNDS: usize = 5;
const EVENTS: u64 = 2_000_000;
const SHARE: f64 = 0.5;

pub fn measure(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let (lines, right) = (lines(EVENTS, false), balances(EVENTS, false));
    let mut folders = Vec::new();
    for build in &setting.builds {
        let server = Millrace::start(&build.path, &setting.folder)?;
        server.client()?.send_lines(&server.key, &lines, 1)?;
        server.settle()?;
        folders.push(server.stop()?);
    }
    let mut rates = vec![Rounds::default(); folders.len()];
    let mut bare = Rounds::default();
    for _ in 0..ROUNDS {
        bare.push(by_hand(&lines, &right, &setting.folder)?);
        for (index, build) in setting.builds.iter().enumerate() {
            let folder = folders.remove(index);
            let (rate, folder) = drain(&build.path, folder, &right)?;
            rates[index].push(rate);
            folders.insert(index, folder);
        }
    }
    table.ratio("ledger from the log into SQLite, compared with a bare loop", &rates[0], &bare, SHARE);
    for (build, rates) in setting.builds.iter().zip(&rates) {
        table.figure(&format!("ledger, {}", build.name), rates, "events/s");
    }
    table.figure("ledger, bare loop", &bare, "events/s");
    table.note(
        "Ledger: a log has 2,000,000 sales of 10,000 users in NDJSON chunks, and the database does not \
         exist yet. The time runs from the start of the view to lag 0 for dedup and view. The bare loop \
         takes the lines from memory, on one thread: typed parse, fold in a hash map, sorted upserts of \
         32,768 events per transaction. It uses the same SQLite and settings (WAL, synchronous=FULL), and \
         its balances are integers. The balances of both are compared with the right ones.",
    );
    Ok(())
}

fn drain(program: &Path, folder: Folder, right: &[i64]) -> Outcome<(f64, Folder)> {
    delete_store(&folder)?;
    let mut server = Millrace::start_in(program, folder, None)?;
    server.settle()?;
    let ended = Instant::now();
    let (begun, _) = server.logged("view runs")?;
    server.check_balances(right)?;
    let rate = EVENTS as f64 / (ended - begun).as_secs_f64();
    Ok((rate, server.stop()?))
}

fn by_hand(lines: &str, right: &[i64], above: &Path) -> Outcome<f64> {
    let folder = Folder::new(above, "by-hand")?;
    let database = yardstick::database(&folder.path().join("balances.db"))?;
    let begun = Instant::now();
    yardstick::ledger(lines, &database)?;
    let rate = EVENTS as f64 / begun.elapsed().as_secs_f64();
    yardstick::check_balances(&database, right)?;
    Ok(rate)
}

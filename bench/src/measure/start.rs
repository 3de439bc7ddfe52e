//! The duration of a start with 1,000,000 events in the log.

use std::time::Instant;

use super::ndjson::LINES;
use crate::Outcome;
use crate::events::lines;
use crate::servers::Folder;
use crate::servers::millrace::Millrace;
use crate::setting::Setting;
use crate::table::{Rounds, Row, Table};

const ROUNDS: usize = 5;
const SECONDS_MAX: f64 = 1.0;

pub fn measure(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let program = &setting.build().path;
    let server = Millrace::start(program, &setting.folder)?;
    server.client()?.send_lines(&server.key, &lines(LINES, false), 1)?;
    server.settle()?;
    let mut folder = server.stop()?;
    let (mut clean, mut killed) = (Rounds::default(), Rounds::default());
    for _ in 0..ROUNDS {
        let started = |folder: Folder| -> Outcome<(f64, Millrace)> {
            let begun = Instant::now();
            let server = Millrace::start_in(program, folder, None)?;
            server.client()?.get("/health")?;
            Ok((begun.elapsed().as_secs_f64(), server))
        };
        let (seconds, server) = started(folder)?;
        clean.push(seconds);
        let (seconds, server) = started(server.kill())?;
        killed.push(seconds);
        folder = server.stop()?;
    }
    for (how, rounds) in [("a clean stop", &clean), ("kill -9", &killed)] {
        table.row(Row {
            what: format!("start with 1,000,000 events in the log, after {how}"),
            measured: format!("{:.2} s", rounds.median()),
            target: format!("below {SECONDS_MAX:.0} s"),
            met: rounds.median() < SECONDS_MAX,
        });
        table.figure(&format!("start after {how}"), rounds, "s");
    }
    table.note("Start: the time runs from the start of the process to the answer of `/health`.");
    Ok(())
}

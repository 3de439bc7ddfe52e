//! NDJSON over one connection, checked and durable, compared with a bare parse of the same bytes.

use std::time::Instant;

use crate::Outcome;
use crate::events::lines;
use crate::servers::millrace::Millrace;
use crate::setting::Setting;
use crate::table::{Rounds, Row, Table, number};
use crate::yardstick;

const ROUNDS: usize = 7;
pub const LINES: u64 = 1_000_000;
const PARSE_SHARE: f64 = 0.25;
const ENOUGH: f64 = 1_000_000.0;

pub fn measure(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let lines = lines(LINES, false);
    let mut servers = Vec::new();
    for build in &setting.builds {
        servers.push((build.name, Millrace::start(&build.path, &setting.folder)?));
    }
    let mut rates = vec![Rounds::default(); servers.len()];
    let mut applied = vec![Rounds::default(); servers.len()];
    let mut parse = Rounds::default();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        std::hint::black_box(yardstick::parse(&lines)?);
        parse.push(LINES as f64 / begun.elapsed().as_secs_f64());
        for (index, (_, server)) in servers.iter().enumerate() {
            let mut client = server.client()?;
            let begun = Instant::now();
            let answer = client.send_lines(&server.key, &lines, 1)?;
            rates[index].push(LINES as f64 / begun.elapsed().as_secs_f64());
            if answer["accepted"] != LINES {
                return Err(format!("not all lines were accepted: {answer}").into());
            }
            server.settle()?;
            applied[index].push(LINES as f64 / begun.elapsed().as_secs_f64());
        }
    }
    let least = ENOUGH.min(PARSE_SHARE * parse.median());
    let bytes = lines.len() as f64 / LINES as f64;
    table.row(Row {
        what: format!("NDJSON over one connection, {bytes:.0} bytes per line, checked and durable"),
        measured: format!("{}/s", number(rates[0].median())),
        target: format!("at least {}/s (the smaller of 1,000,000 and 0.25 x parse)", number(least)),
        met: rates[0].median() >= least,
    });
    for (index, (name, _)) in servers.iter().enumerate() {
        table.figure(&format!("NDJSON, {name}, answered"), &rates[index], "events/s");
        table.figure(
            &format!("NDJSON, {name}, until every view has applied them"),
            &applied[index],
            "events/s",
        );
    }
    table.figure("bare typed parse of the same lines, one thread", &parse, "events/s");
    table.note(
        "NDJSON: one request of 1,000,000 lines, from its first byte sent to its answer, which follows the \
         last sync. The ledger view and SQLite run at the same time.",
    );
    Ok(())
}

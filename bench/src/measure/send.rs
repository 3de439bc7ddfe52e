//! `millrace send` of a file until every balance is right, compared with a hand-written loop.

use std::time::Instant;

use super::ndjson::LINES;
use crate::Outcome;
use crate::events::{balances, lines};
use crate::servers::Folder;
use crate::servers::millrace::Millrace;
use crate::setting::Setting;
use crate::table::{Rounds, Row, Table};
use crate::yardstick;

const ROUNDS: usize = 5;
const TIMES: f64 = 3.0;

pub fn measure(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let (lines, right) = (lines(LINES, false), balances(LINES, false));
    let folder = Folder::new(&setting.folder, "send")?;
    let file = folder.path().join("sales.ndjson");
    std::fs::write(&file, &lines)?;
    let path = file.to_str().ok_or("the folder's name is not UTF-8")?;
    let (mut ours, mut bare) = (Rounds::default(), Rounds::default());
    for _ in 0..ROUNDS {
        // A new server for each round, because dedup would skip lines that were sent before.
        let server = Millrace::start(&setting.build().path, &setting.folder)?;
        if server.command(&["send", "--help"]).is_err() {
            table.note("Send: not measured, because this build has no `millrace send`.");
            return Ok(());
        }
        let begun = Instant::now();
        server.command(&["send", path, "--stream", "revenue"])?;
        server.settle()?;
        ours.push(begun.elapsed().as_secs_f64());
        server.check_balances(&right)?;
        drop(server);

        let by_hand = Folder::new(&setting.folder, "by-hand")?;
        let database = yardstick::database(&by_hand.path().join("balances.db"))?;
        let begun = Instant::now();
        let text = std::fs::read_to_string(&file)?;
        yardstick::send(&text, &by_hand.path().join("log"), &database)?;
        bare.push(begun.elapsed().as_secs_f64());
        yardstick::check_balances(&database, &right)?;
    }
    let times = ours.median() / bare.median();
    table.row(Row {
        what: "`millrace send` of 1,000,000 lines until every balance is right, time compared with a \
               hand-written loop"
            .to_owned(),
        measured: format!("{times:.2} times"),
        target: format!("at most {TIMES:.0} times"),
        met: times <= TIMES,
    });
    table.figure("send", &ours, "s");
    table.figure("send, hand-written loop", &bare, "s");
    table.note(
        "Send: the time runs from the start of the command to lag 0 of dedup and views. Then all balances \
         are checked. The hand-written loop runs on one thread: read the file, typed parse, append to a \
         file with one fdatasync per 1,000 lines, fold, upsert into SQLite.",
    );
    Ok(())
}

//! A file by `millrace send`, until every balance is right, beside the same work done by hand.

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
    let (lines, right) = (lines(LINES), balances(LINES));
    let folder = Folder::new(&setting.folder, "send")?;
    let file = folder.path().join("sales.ndjson");
    std::fs::write(&file, &lines)?;
    let path = file.to_str().ok_or("the folder's name is not UTF-8")?;
    let (mut ours, mut bare) = (Rounds::default(), Rounds::default());
    for _ in 0..ROUNDS {
        // A server of its own each: what was sent before would be recognised.
        let server = Millrace::start(&setting.build().path, &setting.folder)?;
        if server.command(&["send", "--help"]).is_err() {
            table.note("`millrace send` is not in this build; not measured.");
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
        what: "`millrace send` of 1,000,000 lines until every balance is right, against the same by hand"
            .to_owned(),
        measured: format!("{times:.2} times"),
        target: format!("at most {TIMES:.0} times"),
        met: times <= TIMES,
    });
    table.figure("send", &ours, "s");
    table.figure("send, by hand", &bare, "s");
    table.note(
        "Send: from the start of the command to lag 0 of gate and views, then all balances are checked. By hand: read \
         the file, typed parse, append to a file with one fdatasync per 1,000 lines, fold, upsert into SQLite, one thread.",
    );
    Ok(())
}

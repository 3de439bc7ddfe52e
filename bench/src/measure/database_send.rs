//! `millrace send` of a file until every balance in PostgreSQL is right, compared with one upsert per event.

use std::time::Instant;

use super::anew::{ALL_PRESETS, on_database};
use super::ndjson::LINES;
use crate::Outcome;
use crate::clients::postgres;
use crate::events::{amounts, balances, lines};
use crate::servers::Folder;
use crate::servers::databases::{Kind, Server};
use crate::servers::millrace::Millrace;
use crate::setting::Setting;
use crate::table::{NO_TARGET, Rounds, Row, Table};

const ROUNDS: usize = 3;
/// Fewer than `LINES`, because single upserts of a million events take too long.
const UPSERTS: u64 = 20_000;

pub fn measure(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let right = balances(LINES, false);
    let files = Folder::new(&setting.folder, "send")?;
    let file = files.path().join("sales.ndjson");
    std::fs::write(&file, lines(LINES, false))?;
    let path = file.to_str().ok_or("the folder's name is not UTF-8")?;
    let amounts = amounts(UPSERTS, false);
    let database = Server::start(Kind::Postgres, &setting.folder)?;
    let (mut ours, mut bare) = (Rounds::default(), Rounds::default());
    for _ in 0..ROUNDS {
        let url = database.new_database()?;
        bare.push(postgres::upserts(&url, &amounts)?);
        postgres::check_balances(&url, &balances(UPSERTS, false))?;
        database.drop_database(&url)?;

        let url = database.new_database()?;
        let folder = Folder::new(&setting.folder, "millrace")?;
        std::fs::write(folder.path().join("millrace.toml"), on_database(ALL_PRESETS, &url))?;
        let server = Millrace::start_in(&setting.build().path, folder, None)?;
        let begun = Instant::now();
        server.command(&["send", path, "--stream", "revenue"])?;
        server.settle()?;
        ours.push(LINES as f64 / begun.elapsed().as_secs_f64());
        postgres::check_balances(&url, &right)?;
        drop(server);
        database.drop_database(&url)?;
    }
    let times = ours.median() / bare.median();
    table.row(Row {
        what: "`millrace send` of 1,000,000 lines until every balance in PostgreSQL is right, compared \
               with one upsert per event"
            .to_owned(),
        measured: format!("{times:.0} times as fast"),
        target: NO_TARGET.to_owned(),
        met: true,
    });
    table.figure("send into PostgreSQL", &ours, "events/s");
    table.figure("one upsert per event", &bare, "events/s");
    table.note(
        "Send into PostgreSQL: the time runs from the start of the command to lag 0 of dedup and views. One \
         upsert per event: a bare tokio-postgres client writes 20,000 of the same sales. Each is one \
         prepared statement, committed before the next one.",
    );
    Ok(())
}

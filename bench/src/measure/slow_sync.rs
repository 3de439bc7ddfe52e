//! The rate on a slow disk. Each sync takes 5 ms longer, so requests must share syncs.

use std::time::Duration;

use super::live_event::live_events;
use crate::Outcome;
use crate::load::closed_loop;
use crate::servers::millrace::Millrace;
use crate::setting::Setting;
use crate::table::{Rounds, Row, Table, number};

const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(2);
const SYNC_SECONDS: f64 = 0.005;
/// The minimum share of the rate that every connection would have if each sync answered one of its requests.
const SHARE: f64 = 0.45;

pub fn measure(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let server =
        Millrace::start_with_failpoints(&setting.failpoints, &setting.folder, "journal.sync=sleep:5")?;
    let target = live_events(&server);
    for connections in [16, 64, 256] {
        let mut rates = Rounds::default();
        for _ in 0..ROUNDS {
            rates.push(closed_loop(&target, connections, ROUND)?.per_second);
            server.settle()?;
        }
        let least = SHARE * connections as f64 / SYNC_SECONDS;
        table.row(Row {
            what: format!("`POST /liveEvent`, {connections} connections, every sync 5 ms slower"),
            measured: format!("{}/s", number(rates.median())),
            target: format!("at least {}/s", number(least)),
            met: rates.median() >= least,
        });
        table.figure(&format!("{connections} connections, sync 5 ms slower"), &rates, "requests/s");
    }
    table.note(
        "Slow sync: a build with failpoints sleeps 5 ms before each sync of the log. The target is 0.45 x \
         connections / 5 ms.",
    );
    Ok(())
}

//! The peak memory during 10,000,000 events, and during as many more while the view is paused.

use super::ndjson::LINES;
use crate::Outcome;
use crate::events::lines;
use crate::servers::millrace::Millrace;
use crate::servers::wait_for;
use crate::setting::Setting;
use crate::table::{Row, Table};

const TIMES: usize = 10;
const MEBIBYTES_MAX: f64 = 150.0;

pub fn measure(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let lines = lines(LINES, false);
    let server = Millrace::start(&setting.build().path, &setting.folder)?;
    server.client()?.send_lines(&server.key, &lines, TIMES)?;
    server.settle()?;
    row(table, "10,000,000 events over NDJSON", server.memory_peak()?);

    server.database()?.execute_batch("DROP TABLE users_revenue")?;
    let mut client = server.client()?;
    server.client()?.send_lines(&server.key, &lines, 1)?;
    wait_for("the view to be paused", || Ok(client.get("/ready")?["views"]["revenue"]["state"] == "paused"))?;
    server.client()?.send_lines(&server.key, &lines, TIMES)?;
    row(table, "10,000,000 more events while the view is paused", server.memory_peak()?);
    table.note("Memory: VmHWM of the server's process. The view is paused because its table was dropped.");
    Ok(())
}

fn row(table: &mut Table, what: &str, peak: f64) {
    table.row(Row {
        what: format!("peak memory: {what}"),
        measured: format!("{peak:.0} MiB"),
        target: format!("below {MEBIBYTES_MAX:.0} MiB"),
        met: peak < MEBIBYTES_MAX,
    });
}

//! Balances from the log into PostgreSQL, compared with psql: `\copy` of the same events into a temporary table, and
//! one statement that adds them up.

use super::anew::{ALL_PRESETS, drained, filled};
use crate::Outcome;
use crate::clients::{mariadb, postgres};
use crate::events::{amounts, balances, lines};
use crate::servers::Folder;
use crate::servers::databases::{Kind, Server};
use crate::setting::Setting;
use crate::table::{NO_TARGET, Rounds, Row, Table};

const ROUNDS: usize = 5;
const EVENTS: u64 = 1_000_000;
const TIMES: f64 = 1.5;

pub fn measure(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let server = Server::start(Kind::Postgres, &setting.folder)?;
    let times = users(setting, table, &server, false)?;
    table.row(Row {
        what: "ledger of 1,000,000 events of 10,000 users into PostgreSQL, time compared with psql's \
               `\\copy` and one statement"
            .to_owned(),
        measured: format!("{times:.2} times"),
        target: format!("at most {TIMES} times"),
        met: times <= TIMES,
    });
    let times = users(setting, table, &server, true)?;
    table.row(Row {
        what: "the same ledger for 1,000,000 users".to_owned(),
        measured: format!("{times:.2} times"),
        target: NO_TARGET.to_owned(),
        met: true,
    });
    drop(server);
    in_mariadb(setting, table)?;
    table.note(
        "Ledger in a database server: 1,000,000 sales are in the log. The time runs from the start of the \
         view to lag 0. The time of psql runs from its start to its end: `\\copy` of user and signed amount \
         from a CSV file into a temporary table, then `INSERT INTO .. SELECT user, sum(amount) .. GROUP BY \
         1 ON CONFLICT .. DO UPDATE`. The balances of both are compared with the right ones.",
    );
    Ok(())
}

fn users(setting: &Setting, table: &mut Table, server: &Server, distinct_users: bool) -> Outcome<f64> {
    let (lines, right) = (lines(EVENTS, distinct_users), balances(EVENTS, distinct_users));
    let files = Folder::new(&setting.folder, "csv")?;
    let csv = files.path().join("amounts.csv");
    std::fs::write(&csv, amounts(EVENTS, distinct_users))?;
    let program = &setting.build().path;
    let mut folder = filled(program, &setting.folder, ALL_PRESETS, "revenue", &lines)?;
    let (mut ours, mut theirs) = (Rounds::default(), Rounds::default());
    for _ in 0..ROUNDS {
        let url = server.new_database()?;
        postgres::administer(&url, postgres::BALANCES)?;
        let commands = format!(
            "CREATE TEMPORARY TABLE amounts (user_id TEXT, amount NUMERIC);\n\\copy amounts FROM '{}' (FORMAT csv)\n\
             INSERT INTO users_revenue SELECT user_id, sum(amount) FROM amounts GROUP BY 1 \
             ON CONFLICT (user_id) DO UPDATE SET revenue = users_revenue.revenue + excluded.revenue;\n",
            csv.display()
        );
        let begun = std::time::Instant::now();
        server.psql(&url, &commands)?;
        theirs.push(begun.elapsed().as_secs_f64());
        postgres::check_balances(&url, &right)?;
        server.drop_database(&url)?;

        let url = server.new_database()?;
        let (seconds, back) = drained(program, folder, ALL_PRESETS, &url, "revenue")?;
        folder = back;
        postgres::check_balances(&url, &right)?;
        ours.push(seconds);
        server.drop_database(&url)?;
    }
    let who = if distinct_users { "1,000,000 users" } else { "10,000 users" };
    table.figure(&format!("ledger into PostgreSQL, {who}, millrace"), &ours, "s");
    table.figure(&format!("ledger into PostgreSQL, {who}, psql"), &theirs, "s");
    Ok(ours.median() / theirs.median())
}

fn in_mariadb(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let program = &setting.build().path;
    let server = Server::start(Kind::Mariadb, &setting.folder)?;
    let mut folder = filled(program, &setting.folder, ALL_PRESETS, "revenue", &lines(EVENTS, false))?;
    let mut ours = Rounds::default();
    for _ in 0..ROUNDS {
        let url = server.new_database()?;
        let (seconds, back) = drained(program, folder, ALL_PRESETS, &url, "revenue")?;
        folder = back;
        if mariadb::count(&url, "users_revenue")? == 0 {
            return Err("MariaDB has no balances".into());
        }
        ours.push(seconds);
        server.drop_database(&url)?;
    }
    table.figure("ledger into MariaDB, 10,000 users, millrace", &ours, "s");
    Ok(())
}

//! One row per event from the log into PostgreSQL and MariaDB, compared with a bare client. The client has the rows
//! beforehand and inserts them in the fastest way.

use super::anew::{drained, filled};
use super::rows::{ALONE, EVENTS, SPREAD};
use crate::Outcome;
use crate::clients::{Visit, mariadb, postgres};
use crate::events::visits;
use crate::servers::databases::{Kind, Server};
use crate::setting::Setting;
use crate::table::{Rounds, Table};

const ROUNDS: usize = 5;
const SHARE_OF_COPY: f64 = 0.7;
const SHARE_OF_VALUES: f64 = 0.9;

pub fn measure(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let made: Vec<Visit> = (0..EVENTS).map(|number| Visit::new(number, SPREAD)).collect();
    let program = &setting.build().path;
    let mut folder = filled(program, &setting.folder, ALONE, "visits", &visits(0..EVENTS, SPREAD))?;
    for (kind, name, way, share) in [
        (Kind::Postgres, "PostgreSQL", "binary COPY", SHARE_OF_COPY),
        (Kind::Mariadb, "MariaDB", "rows of VALUES", SHARE_OF_VALUES),
    ] {
        let server = Server::start(kind, &setting.folder)?;
        let (mut ours, mut bare) = (Rounds::default(), Rounds::default());
        for _ in 0..ROUNDS {
            let url = server.new_database()?;
            bare.push(match kind {
                Kind::Postgres => postgres::copy(&url, &made)?,
                Kind::Mariadb => mariadb::insert(&url, &made)?,
            });
            server.drop_database(&url)?;

            let url = server.new_database()?;
            let (seconds, back) = drained(program, folder, ALONE, &url, "visits")?;
            folder = back;
            let found = match kind {
                Kind::Postgres => postgres::count(&url, "visits")?,
                Kind::Mariadb => mariadb::count(&url, "visits")?,
            };
            if found != EVENTS {
                return Err(format!("{found} rows, not {EVENTS}").into());
            }
            ours.push(EVENTS as f64 / seconds);
            server.drop_database(&url)?;
        }
        table.ratio(
            &format!("rows from the log into {name}, compared with {way} by a bare client"),
            &ours,
            &bare,
            share,
        );
        table.figure(&format!("rows into {name}, millrace"), &ours, "rows/s");
        table.figure(&format!("rows into {name}, bare client"), &bare, "rows/s");
    }
    table.note(
        "Rows into a database server: the same 1,000,000 visits as for SQLite are in the log. The time runs \
         from the start of the table view to its last row. The bare client has the rows beforehand, uses a \
         table like the one that millrace creates, and commits 32,768 rows per transaction. It is \
         tokio-postgres with binary COPY, or mysql_async with prepared statements of 1,024 rows. The \
         benchmark starts separate database servers with their defaults, so that each commit is on the \
         disk.",
    );
    Ok(())
}

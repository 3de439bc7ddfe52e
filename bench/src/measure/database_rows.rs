//! A row an event, from the log into PostgreSQL and MariaDB, beside a bare client that has the same rows made
//! and brings them in the fastest way there is.

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
            &format!("rows from the log into {name}, against {way} by a bare client"),
            &ours,
            &bare,
            share,
        );
        table.figure(&format!("rows into {name}, millrace"), &ours, "rows/s");
        table.figure(&format!("rows into {name}, bare client"), &bare, "rows/s");
    }
    table.note(
        "Rows into a database server: the same 1,000,000 visits as in SQLite are in the log; the time from the start \
         of the table's view to its last row. The bare client has the rows made and the table as millrace makes it, \
         32,768 rows a transaction: tokio-postgres by binary COPY, mysql_async by prepared statements of 1,024 rows. \
         Servers of their own by their own defaults, so that each commit is on the disk.",
    );
    Ok(())
}

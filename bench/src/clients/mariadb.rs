//! A bare MariaDB client with mysql_async.

use std::time::Instant;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, TxOpts, Value};

use super::{BATCH_ROWS, Visit, blocking};
use crate::Outcome;

/// The number of rows per statement.
const STATEMENT_ROWS: usize = 1_024;

async fn connected(url: &str) -> Outcome<Conn> {
    Ok(Conn::new(Opts::from_url(url)?).await?)
}

pub fn administer(url: &str, sql: &str) -> Outcome<()> {
    blocking(async {
        let mut conn = connected(url).await?;
        conn.query_drop(sql).await?;
        Ok(conn.disconnect().await?)
    })
}

pub fn count(url: &str, table: &str) -> Outcome<u64> {
    blocking(async {
        let mut conn = connected(url).await?;
        let count = conn.query_first(format!("SELECT COUNT(*) FROM {table}")).await?;
        conn.disconnect().await?;
        Ok(count.unwrap_or_default())
    })
}

/// Inserts visits into a table like the one that millrace creates, with prepared statements of many rows and one
/// transaction per batch. Returns rows per second.
pub fn insert(url: &str, visits: &[Visit]) -> Outcome<f64> {
    blocking(async {
        let mut conn = connected(url).await?;
        conn.query_drop("SET NAMES utf8mb4").await?;
        conn.query_drop(
            "CREATE TABLE events (id BIGINT AUTO_INCREMENT PRIMARY KEY, site_id VARCHAR(255) NOT NULL, \
             event_type VARCHAR(100) NOT NULL, path VARCHAR(255), user_id VARCHAR(255), timestamp DATETIME(3)) \
             CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin",
        )
        .await?;
        let begun = Instant::now();
        for batch in visits.chunks(BATCH_ROWS) {
            let mut transaction = conn.start_transaction(TxOpts::default()).await?;
            for rows in batch.chunks(STATEMENT_ROWS) {
                let sql = format!(
                    "INSERT INTO events (site_id, event_type, path, user_id, timestamp) VALUES {}",
                    vec!["(?,?,?,?,?)"; rows.len()].join(",")
                );
                let statement = transaction.prep(sql).await?;
                let values: Vec<Value> = rows.iter().flat_map(values).collect();
                transaction.exec_drop(&statement, values).await?;
            }
            transaction.commit().await?;
        }
        let rate = visits.len() as f64 / begun.elapsed().as_secs_f64();
        conn.disconnect().await?;
        Ok(rate)
    })
}

fn values(visit: &Visit) -> [Value; 5] {
    let [site, kind, path, user] = &visit.texts;
    let time = Value::Date(2025, 11, visit.day as u8, 10, 0, 0, 0);
    [site.into(), kind.into(), path.into(), user.into(), time]
}

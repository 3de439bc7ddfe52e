//! What a bare client does in a database server: rows that were made beforehand, no position, no claim.

pub mod mariadb;
pub mod postgres;

use std::time::{Duration, SystemTime};

use crate::Outcome;
use crate::events::{Spread, visit_parts};

/// As many rows as millrace's views bring in one transaction when they are behind.
pub const BATCH_ROWS: usize = 32_768;

/// Site, kind, path and user of a visit; its time.
pub struct Visit {
    pub texts: [String; 4],
    pub day: u64,
}

impl Visit {
    pub fn new(number: u64, spread: Spread) -> Self {
        let [site, path, user, day] = visit_parts(number, spread);
        let texts =
            [format!("site-{site}"), "page_view".to_owned(), format!("/page/{path}"), format!("user-{user}")];
        Self { texts, day }
    }

    /// Ten in the morning of a day of November 2025.
    fn time(&self) -> SystemTime {
        const FIRST: u64 = 1_761_991_200;
        SystemTime::UNIX_EPOCH + Duration::from_secs(FIRST + (self.day - 1) * 86_400)
    }
}

/// Clients are asynchronous, measurements are not.
fn blocking<T>(work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

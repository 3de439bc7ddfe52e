//! Bare clients of the database servers. They insert rows that exist beforehand, without a position or a claim.

pub mod mariadb;
pub mod postgres;

use std::time::{Duration, SystemTime};

use crate::Outcome;
use crate::events::{Spread, visit_parts};

/// The number of rows per transaction, the same as in millrace's views when they are behind.
pub const BATCH_ROWS: usize = 32_768;

/// A visit: site, kind, path and user as texts, and its day.
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

    /// Returns 10:00 UTC of the visit's day in November 2025.
    fn time(&self) -> SystemTime {
        const FIRST: u64 = 1_761_991_200;
        SystemTime::UNIX_EPOCH + Duration::from_secs(FIRST + (self.day - 1) * 86_400)
    }
}

/// Blocks until an asynchronous client is done.
fn blocking<T>(work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

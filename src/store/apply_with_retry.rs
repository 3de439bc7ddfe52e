//! Applies a plan, however long the database is away.

use std::sync::Arc;

use event::Stop;

use super::{Plan, Skipped, Store, StoreError, shown_name};

impl Store {
    /// Applies a plan and retries temporary failures without a limit. Calls `waiting` with the reason of each one.
    ///
    /// Returns `None` after a stop request. The plan may or may not be applied then; the claim decides at the next
    /// start.
    pub async fn apply_with_retry(
        &self,
        plan: Arc<Plan>,
        stop: &Stop,
        mut waiting: impl FnMut(&str),
    ) -> Option<Result<Vec<Skipped>, StoreError>> {
        let mut backoff = event::Backoff::default();
        loop {
            match self.apply(Arc::clone(&plan)).await {
                // The server reports a failure that lasts.
                Err(StoreError::Transient(reason)) => waiting(&reason),
                outcome => return Some(outcome),
            }
            metrics::counter!("millrace_store_retries_total", "view" => shown_name(&plan.claim.view).to_owned()).increment(1);
            if stop.within(backoff.pause()).await {
                return None;
            }
        }
    }
}

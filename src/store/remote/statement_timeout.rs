//! Limits how long a session waits for the answer to one statement. A server that is silent for longer counts as
//! gone. A late answer could be taken for the answer to the next statement, so the session is never used again.

use std::time::Duration;

use event::limits::{STORE_ANSWER_DURATION_MAX, STORE_TABLE_DURATION_MAX};

use crate::store::StoreError;

pub struct StatementTimeout {
    max: Duration,
    /// A statement is unanswered, so the session is unusable.
    unanswered: bool,
}

impl Default for StatementTimeout {
    fn default() -> Self {
        Self::new(STORE_ANSWER_DURATION_MAX)
    }
}

impl StatementTimeout {
    pub fn new(max: Duration) -> Self {
        Self { max, unanswered: false }
    }

    /// Allows for statements that read a whole table; creating an index can take hours.
    pub fn lengthen(&mut self) {
        self.max = STORE_TABLE_DURATION_MAX;
    }

    /// Returns to the limit for ordinary statements.
    pub fn shorten(&mut self) {
        self.max = STORE_ANSWER_DURATION_MAX;
    }

    /// Returns the driver's result if it arrives in time. Fails at once if an earlier statement is unanswered.
    pub async fn wait<T>(&mut self, work: impl Future<Output = T>) -> Result<T, StoreError> {
        if !self.unanswered {
            // Set before waiting: if this future is dropped, the statement is still running.
            self.unanswered = true;
            if let Ok(outcome) = tokio::time::timeout(self.max, work).await {
                self.unanswered = false;
                return Ok(outcome);
            }
        }
        let seconds = self.max.as_secs();
        Err(StoreError::Transient(format!("the database has not answered for {seconds} s")))
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    const SOON: Duration = Duration::from_millis(5);

    #[tokio::test]
    async fn a_session_that_timed_out_is_not_used_again() {
        let mut timeout = StatementTimeout::default();
        assert_eq!(timeout.wait(ready(1)).await, Ok(1));
        let mut timeout = StatementTimeout::new(SOON);
        assert!(timeout.wait(pending::<()>()).await.is_err());
        assert!(timeout.wait(ready(1)).await.is_err());
    }

    #[tokio::test]
    async fn the_answer_to_a_dropped_wait_is_not_taken_for_the_next_one() {
        let mut timeout = StatementTimeout::default();
        assert!(tokio::time::timeout(SOON, timeout.wait(pending::<()>())).await.is_err());
        assert!(timeout.wait(ready(1)).await.is_err());
    }
}

//! How long a session waits for the answer to one statement. A server that is silent for longer is as good as
//! one that is gone; and what it says later is nobody's answer, so that the session is never used again.

use std::time::Duration;

use event::limits::{STORE_ANSWER_DURATION_MAX, STORE_TABLE_DURATION_MAX};

use crate::store::StoreError;

pub struct Patience {
    max: Duration,
    lost: bool,
}

impl Default for Patience {
    fn default() -> Self {
        Self::of(STORE_ANSWER_DURATION_MAX)
    }
}

impl Patience {
    pub fn of(max: Duration) -> Self {
        Self { max, lost: false }
    }

    /// For statements that go over a whole table: an index takes as long as it takes.
    pub fn lengthen(&mut self) {
        self.max = STORE_TABLE_DURATION_MAX;
    }

    pub fn shorten(&mut self) {
        self.max = STORE_ANSWER_DURATION_MAX;
    }

    /// What the driver says, if it says something in time.
    pub async fn wait<T>(&mut self, work: impl Future<Output = T>) -> Result<T, StoreError> {
        if !self.lost {
            // Dropped by whoever waits for this, the statement is still under way.
            self.lost = true;
            if let Ok(outcome) = tokio::time::timeout(self.max, work).await {
                self.lost = false;
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
    async fn who_was_silent_once_is_not_asked_again() {
        let mut patience = Patience::default();
        assert_eq!(patience.wait(ready(1)).await, Ok(1));
        let mut patience = Patience::of(SOON);
        assert!(patience.wait(pending::<()>()).await.is_err());
        assert!(patience.wait(ready(1)).await.is_err());
    }

    #[tokio::test]
    async fn an_answer_that_nobody_waited_for_is_not_taken_for_the_next_one() {
        let mut patience = Patience::default();
        assert!(tokio::time::timeout(SOON, patience.wait(pending::<()>())).await.is_err());
        assert!(patience.wait(ready(1)).await.is_err());
    }
}

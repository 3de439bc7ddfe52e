//! Decides what follows an attempt.

use crate::destinations::{Outcome, RetrySchedule, Verdict};
use crate::store::AfterAttempt;

/// `failed` attempts have failed before this one. `fraction` is a random number between 0 and 1.
pub fn after(outcome: &Outcome, failed: i64, schedule: &RetrySchedule, fraction: f64) -> AfterAttempt {
    let retry_after = match outcome.verdict {
        Verdict::Sent => return AfterAttempt::Sent,
        Verdict::Refused => return AfterAttempt::Dead,
        // The destination is paused, and the notification is sent when it is resumed.
        Verdict::Gone => return AfterAttempt::Resumed,
        Verdict::Failed { retry_after } => retry_after,
    };
    let failed = u32::try_from(failed).unwrap_or(u32::MAX).saturating_add(1);
    match schedule.delay(failed, retry_after, fraction) {
        Some(delay) => AfterAttempt::Retry { millis: delay.as_millis() as i64 },
        None => AfterAttempt::Dead,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn four_failures_make_a_dead_letter_and_a_refusal_makes_one_at_once() {
        let schedule = RetrySchedule::default();
        let failed = Outcome::failed("no answer");
        let steps: Vec<_> = (0..4).map(|before| after(&failed, before, &schedule, 0.0)).collect();
        let retry = |millis| AfterAttempt::Retry { millis };
        assert_eq!(steps, [retry(1_000), retry(5_000), retry(30_000), AfterAttempt::Dead]);
        let refused = Outcome::answered(Verdict::Refused, Some(550), "", "no such user");
        assert_eq!(after(&refused, 0, &schedule, 0.0), AfterAttempt::Dead);
        assert_eq!(after(&Outcome::sent(Some(200), ""), 3, &schedule, 0.0), AfterAttempt::Sent);
        let verdict = Verdict::Failed { retry_after: Some(Duration::from_secs(9)) };
        let later = Outcome::answered(verdict, Some(429), "", "answered 429");
        assert_eq!(after(&later, 0, &schedule, 0.0), retry(9_000));
    }
}

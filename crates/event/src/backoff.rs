//! The delay before the next attempt at something that failed: it doubles up to a maximum.

use std::time::Duration;

use super::limits::{RETRY_DELAY_MAX, RETRY_DELAY_MIN};

#[derive(Clone, Debug)]
pub struct Backoff {
    delay: Duration,
    delay_max: Duration,
}

/// The delays between attempts at the store.
impl Default for Backoff {
    fn default() -> Self {
        Self::new(RETRY_DELAY_MIN, RETRY_DELAY_MAX)
    }
}

impl Backoff {
    pub fn new(delay_min: Duration, delay_max: Duration) -> Self {
        Self { delay: delay_min, delay_max }
    }

    /// Returns the delay before the next attempt and doubles the one after it.
    pub fn pause(&mut self) -> Duration {
        let delay = self.delay;
        self.delay = (delay * 2).min(self.delay_max);
        delay
    }

    /// Does the same, but leaves half of the delay to `fraction`, a random number between 0 and 1. Clients that failed
    /// together then do not come back together.
    pub fn pause_with_jitter(&mut self, fraction: f64) -> Duration {
        self.pause().mul_f64(0.5 + fraction / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_grows_to_its_maximum_and_stays_there() {
        let mut backoff = Backoff::default();
        let delays: Vec<Duration> = (0..10).map(|_| backoff.pause()).collect();
        assert_eq!(delays[..3], [RETRY_DELAY_MIN, RETRY_DELAY_MIN * 2, RETRY_DELAY_MIN * 4]);
        assert!(delays.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(delays[9], RETRY_DELAY_MAX);
    }

    #[test]
    fn jitter_takes_away_up_to_half_of_the_delay() {
        let backoff = || Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        assert_eq!(backoff().pause_with_jitter(0.0), Duration::from_millis(50));
        assert_eq!(backoff().pause_with_jitter(1.0), Duration::from_millis(100));
    }
}

//! The delay before the store is tried again: it doubles up to a maximum.

use std::time::Duration;

use event::limits::{RETRY_DELAY_MAX, RETRY_DELAY_MIN};

pub struct Backoff {
    delay: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { delay: RETRY_DELAY_MIN }
    }
}

impl Backoff {
    /// Returns the delay before the next attempt and doubles the one after it.
    pub fn pause(&mut self) -> Duration {
        let delay = self.delay;
        self.delay = (delay * 2).min(RETRY_DELAY_MAX);
        delay
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
}

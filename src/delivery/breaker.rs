//! Slows down attempts at a destination that does not work. The other destinations do not notice: the breaker saves the
//! broken one, and this server, useless work.

use std::time::{Duration, Instant};

use event::Backoff;
use event::limits::{BREAKER_DURATION_MIN, BREAKER_FAILURES_MIN, BREAKER_PAUSE_MAX, BREAKER_PAUSE_MIN};

/// The attempts at one destination, or at one of its hosts.
#[derive(Debug, Default)]
pub struct Breaker {
    failures: u32,
    /// When the first failure since the last success was.
    failing_since: Option<Instant>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    backoff: Backoff,
    /// No attempt begins before.
    until: Instant,
}

impl Breaker {
    /// Returns whether the destination has begun to work again.
    pub fn succeeded(&mut self) -> bool {
        let was_open = self.open.is_some();
        *self = Self::default();
        was_open
    }

    /// Returns whether the destination counts as broken from now on.
    pub fn failed(&mut self, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        let since = *self.failing_since.get_or_insert(now);
        if let Some(open) = &mut self.open {
            if now < open.until {
                // It began before the breaker opened.
                return false;
            }
            open.until = now + open.backoff.pause();
            return false;
        }
        if self.failures < BREAKER_FAILURES_MIN || now.duration_since(since) < BREAKER_DURATION_MIN {
            return false;
        }
        let mut backoff = Backoff::new(BREAKER_PAUSE_MIN, BREAKER_PAUSE_MAX);
        self.open = Some(Open { until: now + backoff.pause(), backoff });
        true
    }

    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Returns how many attempts may run at the same time, of `at_once` normally.
    pub fn at_once(&self, at_once: usize, now: Instant) -> usize {
        match &self.open {
            None => at_once,
            Some(open) if now < open.until => 0,
            Some(_) => 1,
        }
    }

    /// Returns the time until the next attempt may begin.
    pub fn pause(&self, now: Instant) -> Duration {
        self.open.as_ref().map_or(Duration::ZERO, |open| open.until.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_failures_for_a_long_time_leave_one_attempt_at_a_time_until_one_succeeds() {
        let (mut breaker, begin) = (Breaker::default(), Instant::now());
        for _ in 0..100 {
            assert!(!breaker.failed(begin), "all within a moment");
        }
        assert_eq!(breaker.at_once(32, begin), 32);
        let later = begin + BREAKER_DURATION_MIN;
        assert!(breaker.failed(later) && breaker.is_open());
        assert_eq!((breaker.at_once(32, later), breaker.pause(later)), (0, BREAKER_PAUSE_MIN));
        let mut now = later;
        for _ in 0..10 {
            now += breaker.pause(now);
            assert_eq!(breaker.at_once(32, now), 1);
            assert!(!breaker.failed(now));
        }
        assert_eq!(breaker.pause(now), BREAKER_PAUSE_MAX);
        assert!(breaker.succeeded() && !breaker.succeeded());
        assert_eq!(breaker.at_once(32, now), 32);
    }

    #[test]
    fn a_success_in_between_begins_the_time_again() {
        let (mut breaker, begin) = (Breaker::default(), Instant::now());
        for _ in 0..BREAKER_FAILURES_MIN {
            breaker.failed(begin);
        }
        breaker.succeeded();
        assert!(!breaker.failed(begin + BREAKER_DURATION_MIN));
        assert!(!breaker.is_open());
    }
}

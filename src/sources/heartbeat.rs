//! Pings on a connection that stays open, and when its other side counts as gone. The transport sends the pings.

use std::time::Duration;

use tokio::time::Instant;

pub struct Heartbeat {
    interval: Duration,
    timeout: Duration,
    /// When the next ping is due; `None` while the answer to one is awaited.
    ping_at: Option<Instant>,
    gone_at: Instant,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    Nothing,
    Ping,
    /// The other side has been silent for too long.
    Gone,
}

impl Heartbeat {
    /// `timeout` is how long the answer to a ping may take.
    pub fn start(now: Instant, interval: Duration, timeout: Duration) -> Self {
        Self { interval, timeout, ping_at: Some(now + interval), gone_at: now + interval + timeout }
    }

    /// Notes that the other side has sent something at this time.
    pub fn heard(&mut self, at: Instant) {
        let until_ping = self.ping_at.map_or(at, |ping_at| ping_at.max(at));
        self.gone_at = self.gone_at.max(until_ping + self.timeout);
    }

    /// Notes that the other side has answered a ping.
    pub fn answered(&mut self, now: Instant) {
        if self.ping_at.is_none() {
            self.ping_at = Some(now + self.interval);
        }
        self.heard(now);
    }

    /// Returns what is due at this time. After `Ping`, an answer is awaited.
    pub fn beat(&mut self, now: Instant) -> Beat {
        if now >= self.gone_at {
            return Beat::Gone;
        }
        if self.ping_at.is_some_and(|at| now >= at) {
            self.ping_at = None;
            self.gone_at = now + self.timeout;
            return Beat::Ping;
        }
        Beat::Nothing
    }

    /// Returns when something is due.
    pub fn deadline(&self) -> Instant {
        self.ping_at.map_or(self.gone_at, |at| at.min(self.gone_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(25);
    const TIMEOUT: Duration = Duration::from_secs(60);

    #[test]
    fn a_side_that_answers_each_ping_is_never_gone() {
        let mut now = Instant::now();
        let mut heartbeat = Heartbeat::start(now, INTERVAL, TIMEOUT);
        for _ in 0..10 {
            assert_eq!(heartbeat.beat(now), Beat::Nothing);
            assert_eq!(heartbeat.deadline(), now + INTERVAL);
            now += INTERVAL;
            assert_eq!(heartbeat.beat(now), Beat::Ping);
            now += TIMEOUT - Duration::from_secs(1);
            assert_eq!(heartbeat.beat(now), Beat::Nothing);
            heartbeat.answered(now);
        }
    }

    #[test]
    fn a_silent_side_is_gone_after_the_timeout_and_anything_it_sends_puts_that_off() {
        let begun = Instant::now();
        let mut heartbeat = Heartbeat::start(begun, INTERVAL, TIMEOUT);
        assert_eq!(heartbeat.beat(begun + INTERVAL), Beat::Ping);
        assert_eq!(heartbeat.deadline(), begun + INTERVAL + TIMEOUT);
        let heard = begun + INTERVAL + Duration::from_secs(50);
        heartbeat.heard(heard);
        assert_eq!(heartbeat.beat(begun + INTERVAL + TIMEOUT), Beat::Nothing);
        assert_eq!(heartbeat.beat(heard + TIMEOUT), Beat::Gone);
    }

    #[test]
    fn an_answer_without_a_ping_does_not_move_the_next_ping() {
        let begun = Instant::now();
        let mut heartbeat = Heartbeat::start(begun, INTERVAL, TIMEOUT);
        heartbeat.answered(begun + Duration::from_secs(20));
        assert_eq!(heartbeat.beat(begun + INTERVAL), Beat::Ping);
    }
}

//! The deadlines of a connection that stays open, and its end after the last answers.

use std::time::Duration;

use event::limits::SOCKET_SIGN_IN_DURATION_MAX;
use tokio::time::Instant;

use super::heartbeat::{Beat, Heartbeat};
use super::socket_end::SocketEnd;

pub struct SessionClock {
    heartbeat: Heartbeat,
    /// The deadline of a client that has not signed in.
    sign_in_by: Option<Instant>,
    /// The end for a client that misses this deadline.
    not_signed_in: SocketEnd,
    /// Set when the connection ends as soon as everything that it has received is answered.
    ending: Option<SocketEnd>,
}

impl SessionClock {
    /// `ping` is the time between two pings, and `pong` the time that the answer to one may take.
    pub fn start(now: Instant, ping: Duration, pong: Duration, not_signed_in: SocketEnd) -> Self {
        Self {
            heartbeat: Heartbeat::start(now, ping, pong),
            sign_in_by: Some(now + SOCKET_SIGN_IN_DURATION_MAX),
            not_signed_in,
            ending: None,
        }
    }

    /// Notes that the client has sent something at this time.
    pub fn heard(&mut self, at: Instant) {
        self.heartbeat.heard(at);
    }

    /// Notes that the client has answered a ping.
    pub fn answered(&mut self, at: Instant) {
        self.heartbeat.answered(at);
    }

    /// Notes whether the client is signed in. One that is not any more has as much time as a new one.
    pub fn sign_in(&mut self, is_signed_in: bool, now: Instant) {
        self.sign_in_by = match self.sign_in_by {
            _ if is_signed_in => None,
            None => Some(now + SOCKET_SIGN_IN_DURATION_MAX),
            by => by,
        };
    }

    /// Lets the connection end. The first reason counts.
    pub fn end(&mut self, end: SocketEnd) {
        self.ending.get_or_insert(end);
    }

    pub fn ending(&self) -> Option<SocketEnd> {
        self.ending
    }

    /// Does what is due, and returns whether the client has to be pinged. Fails if the client is gone.
    pub fn tick(&mut self, now: Instant) -> Result<bool, SocketEnd> {
        if self.sign_in_by.is_some_and(|by| now >= by) {
            self.end(self.not_signed_in);
        }
        match self.heartbeat.beat(now) {
            Beat::Nothing => Ok(false),
            Beat::Ping => Ok(true),
            Beat::Gone => Err(SocketEnd::NoAnswerToPing),
        }
    }

    /// Returns when something has to be done even if nothing arrives. `others` are deadlines of the caller. A connection
    /// that ends waits only for its answers and for a client that is gone: a deadline that has passed would keep it busy.
    pub fn deadline(&self, others: impl IntoIterator<Item = Option<Instant>>) -> Instant {
        let beat = self.heartbeat.deadline();
        if self.ending.is_some() {
            return beat;
        }
        others.into_iter().chain([self.sign_in_by]).flatten().fold(beat, Instant::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: SocketEnd = SocketEnd::Refused("late");

    fn clock() -> (SessionClock, Instant) {
        let now = Instant::now();
        (SessionClock::start(now, Duration::from_secs(10), Duration::from_secs(30), LATE), now)
    }

    #[test]
    fn a_client_that_does_not_sign_in_has_a_deadline_and_gets_a_new_one_when_it_signs_out() {
        let (mut clock, now) = clock();
        let late = now + SOCKET_SIGN_IN_DURATION_MAX;
        clock.sign_in(true, now);
        assert_eq!((clock.tick(late), clock.ending()), (Ok(true), None));
        clock.sign_in(false, late);
        clock.sign_in(false, late + Duration::from_secs(1));
        let (just_before, late) = (late + Duration::from_secs(14), late + SOCKET_SIGN_IN_DURATION_MAX);
        assert_eq!((clock.tick(just_before), clock.ending()), (Ok(false), None));
        assert_eq!((clock.tick(late), clock.ending()), (Ok(false), Some(LATE)));
        clock.end(SocketEnd::Stopping);
        assert_eq!(clock.ending(), Some(LATE));
    }

    /// A session that ends may wait for its answers for long, for example while the disk stalls.
    #[test]
    fn a_session_that_ends_never_has_a_deadline_in_the_past() {
        for end in [None, Some(SocketEnd::Stopping), Some(LATE)] {
            let (mut clock, begun) = clock();
            end.into_iter().for_each(|end| clock.end(end));
            // A key that has ended, say.
            let passed = begun.checked_sub(Duration::from_secs(1));
            let mut now = begun + SOCKET_SIGN_IN_DURATION_MAX;
            let mut ticks = 0;
            while clock.tick(now).is_ok() {
                assert!(clock.deadline([passed]) > now, "the session would never wait");
                now = clock.deadline([passed]);
                ticks += 1;
                assert!(ticks < 10, "a client that is silent is never gone");
            }
        }
    }
}

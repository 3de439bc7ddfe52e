//! A lane: the deliveries to one destination, or to one of the hosts of a destination whose URL depends on the event. A
//! lane that takes nothing delays no other.

use std::collections::VecDeque;
use std::time::Instant;

use event::limits::{
    ATTEMPTS_AT_ALL_HOSTS_MAX, ATTEMPTS_AT_NEW_HOST_MAX, ATTEMPTS_AT_ONE_HOST_MAX, LEASED_FOR_EACH_ATTEMPT,
    LEASED_MAX,
};
use tokio::sync::OwnedSemaphorePermit;

use super::breaker::Breaker;
use crate::store::Leased;

/// How many attempts a destination gets at the same time.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub at_once: usize,
    /// Its URL depends on the event.
    pub many_hosts: bool,
}

impl Pace {
    /// Returns how many attempts may run at the same time, at all hosts.
    pub fn in_all(&self) -> usize {
        if self.many_hosts { ATTEMPTS_AT_ALL_HOSTS_MAX } else { self.at_once }
    }

    /// Returns how many deliveries may be leased.
    pub fn leased_max(&self) -> usize {
        if self.many_hosts { ATTEMPTS_AT_ALL_HOSTS_MAX } else { LEASED_MAX.max(self.at_once) }
    }
}

#[derive(Default)]
pub struct Lane {
    pub breaker: Breaker,
    /// Leased, but no attempt has begun.
    pub waiting: VecDeque<Waiting>,
    pub running: usize,
    /// When deliveries may be due next; `None` if that is not known.
    pub due: Option<Instant>,
    /// The last lease got as much as it asked for.
    pub had_more: bool,
    /// What is leased or attempted is attempted alone.
    pub is_alone: bool,
    /// Successes in a row.
    successes: u32,
}

pub struct Waiting {
    pub leased: Leased,
    pub since: Instant,
    pub permit: OwnedSemaphorePermit,
}

impl Lane {
    /// Notes the outcome of an attempt.
    pub fn note(&mut self, sent: bool) {
        self.successes = if sent { self.successes.saturating_add(1) } else { 0 };
    }

    /// Returns how many attempts may run at the same time. Of many hosts, each one has to show that it answers, so that those
    /// that hang leave enough for the others.
    pub fn at_once(&self, pace: &Pace, now: Instant) -> usize {
        let shown = ATTEMPTS_AT_NEW_HOST_MAX << self.successes.min(u32::BITS / 4);
        let most = if pace.many_hosts { ATTEMPTS_AT_ONE_HOST_MAX.min(shown) } else { usize::MAX };
        self.breaker.at_once(pace.at_once.min(most), now)
    }

    /// Returns how many further deliveries to lease: enough to keep the attempts busy.
    pub fn wanted(&self, pace: &Pace, now: Instant) -> usize {
        let is_alone = self.is_alone && (self.running > 0 || !self.waiting.is_empty());
        if is_alone || self.due.is_some_and(|due| due > now) {
            return 0;
        }
        let at_once = self.at_once(pace, now);
        let room = at_once.saturating_sub(self.running);
        // Nothing is leased ahead for a broken destination, and not much for one of many hosts.
        let ahead = match (self.breaker.is_open(), pace.many_hosts) {
            (true, _) => room,
            (false, true) => at_once,
            (false, false) => (at_once * LEASED_FOR_EACH_ATTEMPT).clamp(at_once, LEASED_MAX.max(at_once)),
        };
        // Few large reads are cheaper than many small ones.
        if room == 0 || self.waiting.len() > ahead / 2 { 0 } else { ahead - self.waiting.len() }
    }

    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running == 0 && !self.breaker.is_open()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_many_hosts_gets_more_attempts_once_it_has_shown_that_it_answers() {
        let (mut lane, now) = (Lane::default(), Instant::now());
        let [one, many] = [false, true].map(|many_hosts| Pace { at_once: 32, many_hosts });
        assert_eq!((lane.at_once(&many, now), lane.wanted(&many, now)), (ATTEMPTS_AT_NEW_HOST_MAX, 2));
        assert_eq!((lane.at_once(&one, now), lane.wanted(&one, now)), (32, 256));
        lane.running = 2;
        assert_eq!(lane.wanted(&many, now), 0, "it hangs");
        (0..100).for_each(|_| lane.note(true));
        assert_eq!(lane.at_once(&many, now), ATTEMPTS_AT_ONE_HOST_MAX);
        lane.note(false);
        assert_eq!(lane.at_once(&many, now), ATTEMPTS_AT_NEW_HOST_MAX);
        let few = Pace { at_once: 1, many_hosts: true };
        assert_eq!(lane.at_once(&few, now), 1);
    }
}

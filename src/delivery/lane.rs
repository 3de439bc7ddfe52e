//! A lane: the deliveries to one destination, or to one of the hosts of a destination whose URL depends on the event. A
//! lane that takes nothing delays no other.

use std::collections::VecDeque;
use std::time::Instant;

use event::limits::{
    ATTEMPTS_AT_ALL_HOSTS_MAX, ATTEMPTS_AT_NEW_HOST_MAX, ATTEMPTS_AT_ONE_HOST_MAX,
    ATTEMPTS_CUT_OFF_ALONE_MIN, LEASED_FOR_EACH_ATTEMPT, LEASED_MAX,
};
use tokio::sync::OwnedSemaphorePermit;

use super::breaker::Breaker;
use crate::destinations::Destination;
use crate::store::Leased;

/// How many attempts a destination gets at the same time.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub at_once: usize,
    /// Its URL depends on the event.
    pub many_hosts: bool,
}

impl Waiting {
    /// Returns whether several attempts were cut off, so that this delivery may be what ends the process.
    pub fn is_suspect(&self) -> bool {
        self.leased.cut_off >= ATTEMPTS_CUT_OFF_ALONE_MIN
    }
}

impl Pace {
    pub fn of(destination: &Destination) -> Self {
        Self { at_once: destination.at_once, many_hosts: destination.has_many_hosts() }
    }

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
    /// Deliveries are probably due now.
    pub is_due: bool,
    /// The last round of looks for lanes that found it.
    pub seen: u64,
    /// The running attempt is at a delivery that may end the process, so no other one begins.
    is_alone: bool,
    /// Successes in a row.
    successes: u32,
}

pub struct Waiting {
    pub leased: Leased,
    pub since: Instant,
    pub permit: OwnedSemaphorePermit,
}

impl Lane {
    /// Returns the next delivery to attempt. One that may end the process waits until it is alone.
    pub fn next(&mut self) -> Option<Waiting> {
        let next_is_suspect = self.waiting.front()?.is_suspect();
        let has_to_wait = self.is_alone || (next_is_suspect && self.running > 0);
        if has_to_wait { None } else { self.waiting.pop_front() }
    }

    /// Notes that an attempt begins.
    pub fn begin(&mut self, waiting: &Waiting) {
        self.running += 1;
        self.is_alone = waiting.is_suspect();
    }

    /// Notes the end of an attempt.
    pub fn end(&mut self, sent: bool) {
        self.running -= 1;
        self.is_alone = false;
        self.successes = if sent { self.successes.saturating_add(1) } else { 0 };
    }

    /// Returns how many attempts may run at the same time. One of many hosts gets few until it has answered, so that hosts that
    /// hang leave enough for the others.
    pub fn at_once(&self, pace: &Pace, now: Instant) -> usize {
        let shown = ATTEMPTS_AT_NEW_HOST_MAX << self.successes.min(u32::BITS / 4);
        let most = if pace.many_hosts { ATTEMPTS_AT_ONE_HOST_MAX.min(shown) } else { usize::MAX };
        self.breaker.at_once(pace.at_once.min(most), now)
    }

    /// Returns how many further deliveries to lease: enough to keep the attempts busy.
    pub fn wanted(&self, pace: &Pace, now: Instant) -> usize {
        let is_alone = self.is_alone || self.waiting.back().is_some_and(Waiting::is_suspect);
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
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;
    use crate::store::{DeliveryKey, LeaseId};

    #[test]
    fn one_of_many_hosts_gets_more_attempts_once_it_has_shown_that_it_answers() {
        let (mut lane, now) = (Lane::default(), Instant::now());
        let end = |lane: &mut Lane, sent| {
            lane.running = 1;
            lane.end(sent);
        };
        let [one, many] = [false, true].map(|many_hosts| Pace { at_once: 32, many_hosts });
        assert_eq!((lane.at_once(&many, now), lane.wanted(&many, now)), (ATTEMPTS_AT_NEW_HOST_MAX, 2));
        assert_eq!((lane.at_once(&one, now), lane.wanted(&one, now)), (32, 256));
        lane.running = 2;
        assert_eq!(lane.wanted(&many, now), 0, "it hangs");
        (0..100).for_each(|_| end(&mut lane, true));
        assert_eq!(lane.at_once(&many, now), ATTEMPTS_AT_ONE_HOST_MAX);
        end(&mut lane, false);
        assert_eq!(lane.at_once(&many, now), ATTEMPTS_AT_NEW_HOST_MAX);
        let few = Pace { at_once: 1, many_hosts: true };
        assert_eq!(lane.at_once(&few, now), 1);
    }

    fn waiting(cut_off: i64) -> Waiting {
        let text = || "n".to_owned();
        let leased = Leased {
            key: DeliveryKey { view: text(), notification: text(), destination: text() },
            lease: LeaseId([0; 16]),
            attempt: 1,
            failed: 0,
            cut_off,
            created: event::Millis(0),
            content: String::new(),
        };
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("free");
        Waiting { leased, since: Instant::now(), permit }
    }

    #[test]
    fn a_delivery_that_may_end_the_process_is_attempted_alone() {
        let (mut lane, now) = (Lane::default(), Instant::now());
        let pace = Pace { at_once: 32, many_hosts: false };
        lane.waiting.extend([waiting(0), waiting(ATTEMPTS_CUT_OFF_ALONE_MIN)]);
        assert_eq!(lane.wanted(&pace, now), 0, "nothing is leased behind it");
        let first = lane.next().expect("the first one");
        lane.begin(&first);
        assert!(lane.next().is_none(), "another attempt runs");
        lane.end(true);
        let suspect = lane.next().expect("alone");
        lane.begin(&suspect);
        lane.waiting.push_back(waiting(0));
        assert!(lane.next().is_none() && lane.wanted(&pace, now) == 0);
        lane.end(true);
        assert!(lane.next().is_some());
    }
}

//! A lane: the deliveries to one destination, or to one of the hosts of a destination whose URL depends on the event. A
//! lane that takes nothing delays no other.

use std::collections::VecDeque;
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;

use super::breaker::Breaker;
use crate::store::Leased;

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
}

pub struct Waiting {
    pub leased: Leased,
    pub since: Instant,
    pub permit: OwnedSemaphorePermit,
}

impl Lane {
    /// Returns how many further deliveries to lease: enough to keep the attempts busy.
    pub fn wanted(&self, at_once: usize, ahead: usize, now: Instant) -> usize {
        if self.due.is_some_and(|due| due > now) {
            return 0;
        }
        let room = self.breaker.at_once(at_once, now).saturating_sub(self.running);
        // With a broken destination, nothing is leased ahead.
        let ahead = if self.breaker.is_open() { room } else { ahead };
        // Few large reads are cheaper than many small ones.
        if room == 0 || self.waiting.len() > ahead / 2 { 0 } else { ahead - self.waiting.len() }
    }

    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running == 0 && !self.breaker.is_open()
    }
}

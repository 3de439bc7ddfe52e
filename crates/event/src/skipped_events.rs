//! The events that dedup skipped since the server started. A source that remembers an event reads here whether that
//! event is the one that counts, without a query of the store.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use crate::limits::SKIPPED_POSITIONS_MAX;

/// The decisions of dedup about the events that it read since the start. Dedup writes them, and sources read them.
#[derive(Clone, Default)]
pub struct SkippedEvents(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// The decision about every event from this position on, up to `until`, is known.
    from: Option<u64>,
    until: u64,
    /// The positions of skipped events, in order.
    skipped: VecDeque<u64>,
}

impl SkippedEvents {
    /// Sets the position at which dedup continues to read. Dedup may have reached it before: it decides again if
    /// the store was restored to an older state.
    pub fn begin(&self, position: u64) {
        let mut known = crate::lock(&self.0);
        known.from.get_or_insert(position);
        known.until = position;
        while known.skipped.back().is_some_and(|last| *last >= position) {
            known.skipped.pop_back();
        }
    }

    /// Adds the skipped positions below `until`, in order.
    pub fn add(&self, skipped: impl Iterator<Item = u64>, until: u64) {
        let mut known = crate::lock(&self.0);
        known.skipped.extend(skipped);
        known.until = until;
        while known.skipped.len() > SKIPPED_POSITIONS_MAX {
            let forgotten = known.skipped.pop_front();
            known.from = forgotten.map(|position| position + 1);
        }
    }

    /// Returns true if dedup has read the event at `position` and did not skip it. Returns false if the decision is not
    /// known.
    pub fn counts(&self, position: u64) -> bool {
        let known = crate::lock(&self.0);
        known.from.is_some_and(|from| (from..known.until).contains(&position))
            && known.skipped.binary_search(&position).is_err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_counts_if_dedup_has_read_it_and_did_not_skip_it() {
        let events = SkippedEvents::default();
        assert!(!events.counts(10), "before dedup runs");
        events.begin(10);
        events.add([12, 14].into_iter(), 15);
        let counted = |range: std::ops::Range<u64>| range.filter(|at| events.counts(*at)).collect::<Vec<_>>();
        assert_eq!(counted(0..20), [10, 11, 13]);
        // Dedup decides again if the store was restored to an older state.
        events.begin(13);
        assert_eq!(counted(0..20), [10, 11]);
        events.add([].into_iter(), 16);
        assert_eq!(counted(0..20), [10, 11, 13, 14, 15]);
        let many = 20 + SKIPPED_POSITIONS_MAX as u64;
        events.add(20..many, many + 1);
        assert_eq!(counted(0..21), [13, 14, 15, 16, 17, 18, 19], "the oldest decision is forgotten");
        assert!(events.counts(many) && !events.counts(many - 1));
    }
}

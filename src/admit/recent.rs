//! The ids that clients used a moment ago, so that the door itself can tell an id misused for another
//! event. Only a courtesy: the gate decides, for all ids, and this may forget.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use crate::event::limits::RECENT_IDS_MAX;
use crate::event::{BodyHash, EventId};

#[derive(Default)]
pub struct RecentIds {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    hashes: HashMap<EventId, BodyHash>,
    order: VecDeque<EventId>,
}

impl RecentIds {
    /// Whether `id` was used for another body.
    pub fn conflicts(&self, id: EventId, hash: BodyHash) -> bool {
        let known = self.known.lock().expect("no panic while holding the lock");
        known.hashes.get(&id).is_some_and(|known| *known != hash)
    }

    /// To be called once the event is durable.
    pub fn note(&self, id: EventId, hash: BodyHash) {
        let mut known = self.known.lock().expect("no panic while holding the lock");
        if known.hashes.insert(id, hash).is_none() {
            known.order.push_back(id);
        }
        if known.order.len() > RECENT_IDS_MAX {
            if let Some(oldest) = known.order.pop_front() {
                known.hashes.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_a_misused_id_and_stays_bounded() {
        let recent = RecentIds::default();
        let id = |n: usize| EventId::derived("s", "o", &n.to_string());
        for n in 0..RECENT_IDS_MAX + 10 {
            recent.note(id(n), BodyHash([1; 8]));
        }
        assert!(recent.conflicts(id(RECENT_IDS_MAX), BodyHash([2; 8])));
        assert!(!recent.conflicts(id(RECENT_IDS_MAX), BodyHash([1; 8])));
        assert!(!recent.conflicts(id(0), BodyHash([2; 8])), "forgotten");
    }
}

//! The ids that clients used a moment ago, so that the door itself can tell an id misused for another
//! event. Only a courtesy: the gate decides, for all ids, and this may forget.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use event::limits::RECENT_IDS_MAX;
use event::{BodyHash, EventId};

use crate::store::Store;

pub struct RecentIds {
    known: Mutex<Known>,
    store: Store,
}

#[derive(Default)]
struct Known {
    hashes: HashMap<EventId, BodyHash>,
    order: VecDeque<EventId>,
}

impl RecentIds {
    pub fn new(store: Store) -> Self {
        Self { known: Mutex::default(), store }
    }

    /// Whether one of these ids was used for another event. The one that came last may itself have been
    /// the misuse (after a restart this has forgotten which was first), so the gate's word counts.
    pub async fn conflict(&self, ids: impl Iterator<Item = (EventId, BodyHash)>) -> bool {
        let doubted: Vec<(EventId, BodyHash)> = {
            let known = self.known.lock().expect("no panic while holding the lock");
            ids.filter(|(id, hash)| known.conflicts(*id, *hash)).collect()
        };
        for (id, hash) in doubted {
            // Hardly ever asked, and 10 KB of state: not to be carried along by every request.
            let asked = Box::pin(self.store.first_hash(id));
            if !matches!(asked.await, Ok(Some(first)) if first == hash) {
                return true;
            }
        }
        false
    }

    /// To be called once the event is durable.
    pub fn note(&self, id: EventId, hash: BodyHash) {
        self.known.lock().expect("no panic while holding the lock").note(id, hash);
    }
}

impl Known {
    fn conflicts(&self, id: EventId, hash: BodyHash) -> bool {
        self.hashes.get(&id).is_some_and(|known| *known != hash)
    }

    fn note(&mut self, id: EventId, hash: BodyHash) {
        if self.hashes.insert(id, hash).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > RECENT_IDS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.hashes.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_a_misused_id_and_stays_bounded() {
        let mut recent = Known::default();
        let id = |n: usize| EventId::derived("s", "o", &n.to_string());
        for n in 0..RECENT_IDS_MAX + 10 {
            recent.note(id(n), BodyHash([1; 8]));
        }
        assert!(recent.conflicts(id(RECENT_IDS_MAX), BodyHash([2; 8])));
        assert!(!recent.conflicts(id(RECENT_IDS_MAX), BodyHash([1; 8])));
        assert!(!recent.conflicts(id(0), BodyHash([2; 8])), "forgotten");
    }
}

//! The ids that clients used recently, so that a request with an id of another event can be refused at once. This is
//! only a convenience and may forget ids: the deduplicator knows all of them and decides.

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

    /// Returns whether one of these ids was used for another event. A known hash may itself be from a misused id,
    /// because a restart forgets which event was first. So the store's hash decides.
    pub async fn conflict(&self, ids: impl Iterator<Item = (EventId, BodyHash)>) -> bool {
        let candidates: Vec<(EventId, BodyHash)> = {
            let known = event::lock(&self.known);
            ids.filter(|(id, hash)| known.conflicts(*id, *hash)).collect()
        };
        for (id, hash) in candidates {
            // This is rare and its future has 10 KB, so it is boxed: otherwise every request's future would contain
            // it.
            let stored = Box::pin(self.store.first_hash(id));
            // Without an answer of the store, the deduplicator decides later.
            if matches!(stored.await, Ok(first) if first != Some(hash)) {
                return true;
            }
        }
        false
    }

    /// Remembers an id. The caller does this once the event is durable.
    pub fn note(&self, id: EventId, hash: BodyHash) {
        event::lock(&self.known).note(id, hash);
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
    fn a_misused_id_is_recognised_and_the_memory_is_bounded() {
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

//! The ids that clients used recently, so that a request with an id of another event can be refused at once. This is
//! only a convenience and may forget ids: the deduplicator knows all of them and decides.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use event::limits::RECENT_IDS_MAX;
use event::{BodyHash, EventId, Millis};

use crate::store::Store;

pub struct RecentIds {
    known: Mutex<Known>,
    store: Store,
    /// How long ids are remembered for which nothing else is configured.
    window: Duration,
}

#[derive(Default)]
struct Known {
    ids: HashMap<EventId, KnownId>,
    order: VecDeque<EventId>,
}

#[derive(Clone, Copy)]
struct KnownId {
    hash: BodyHash,
    /// When the id may be used for another event.
    expires: Instant,
}

impl RecentIds {
    pub fn new(store: Store, window: Duration) -> Self {
        Self { known: Mutex::default(), store, window }
    }

    /// Returns whether one of these ids was used for another event. A known hash may itself be from a misused id,
    /// because a restart forgets which event was first. So the store's hash decides.
    pub async fn conflict(&self, ids: impl Iterator<Item = (EventId, BodyHash)>) -> bool {
        let candidates: Vec<(EventId, BodyHash)> = {
            let known = event::lock(&self.known);
            let now = Instant::now();
            ids.filter(|(id, hash)| known.conflicts(*id, *hash, now)).collect()
        };
        for (id, hash) in candidates {
            // This is rare and its future has 10 KB, so it is boxed: otherwise every request's future would contain
            // it.
            let stored = Box::pin(self.store.first_hash(id, Millis::now()));
            // Without an answer of the store, the deduplicator decides later.
            if matches!(stored.await, Ok(first) if first != Some(hash)) {
                return true;
            }
        }
        false
    }

    /// Remembers an id, for `window` if the source says how long. The caller does this once the event is durable.
    pub fn note(&self, id: EventId, hash: BodyHash, window: Option<Duration>) {
        let expires = Instant::now() + window.unwrap_or(self.window);
        event::lock(&self.known).note(id, KnownId { hash, expires });
    }
}

impl Known {
    fn conflicts(&self, id: EventId, hash: BodyHash, now: Instant) -> bool {
        self.ids.get(&id).is_some_and(|known| known.hash != hash && known.expires >= now)
    }

    fn note(&mut self, id: EventId, mut known: KnownId) {
        // A repeat does not prolong the time that began with the first receipt.
        if let Some(first) = self.ids.get(&id)
            && first.hash == known.hash
            && first.expires >= Instant::now()
        {
            known.expires = first.expires;
        }
        if self.ids.insert(id, known).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > RECENT_IDS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misused_id_is_recognised_until_it_expires_and_the_memory_is_bounded() {
        let (mut recent, now) = (Known::default(), Instant::now());
        let id = |n: usize| EventId::derived("s", "o", &n.to_string());
        for n in 0..RECENT_IDS_MAX + 10 {
            recent.note(id(n), KnownId { hash: BodyHash([1; 8]), expires: now });
        }
        let last = id(RECENT_IDS_MAX);
        assert!(recent.conflicts(last, BodyHash([2; 8]), now));
        assert!(!recent.conflicts(last, BodyHash([1; 8]), now));
        assert!(!recent.conflicts(last, BodyHash([2; 8]), now + Duration::from_millis(1)), "expired");
        assert!(!recent.conflicts(id(0), BodyHash([2; 8]), now), "forgotten");
    }
}

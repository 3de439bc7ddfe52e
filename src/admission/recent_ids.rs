//! The ids that clients used recently. A request with an id of another event can thus be refused at once, and the answer
//! to a repeat can say that it is one. This is only a convenience and may forget ids: the deduplicator knows all of them
//! and decides.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use event::limits::{IDS_LOOKUP_DURATION_MAX, RECENT_IDS_MAX};
use event::{BodyHash, EventId, Millis, SkippedEvents};
use tokio::time::timeout;

use super::EventName;
use crate::store::{Store, StoreError};

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

/// The event for which an id was used.
#[derive(Clone, Copy)]
struct KnownId {
    hash: BodyHash,
    position: u64,
    /// After this time, the id may be used for another event.
    expires: Millis,
}

/// When and where an event with an id became durable.
#[derive(Clone, Copy)]
pub struct Durable {
    pub position: u64,
    /// The time of receipt that the log holds.
    pub received: Millis,
    /// How long the id is remembered, if the source says so.
    pub window: Option<Duration>,
}

impl RecentIds {
    pub fn new(store: Store, window: Duration) -> Self {
        Self { known: Mutex::default(), store, window }
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns whether one of these ids was used for another event. A known hash may itself be from a misused id,
    /// because a restart forgets which event was first. So the store's hash decides. If the store does not answer in
    /// time, returns false, and the deduplicator decides later.
    pub async fn conflict(&self, ids: impl Iterator<Item = EventName>) -> bool {
        let now = Millis::now();
        let candidates: Vec<EventName> = {
            let known = event::lock(&self.known);
            ids.filter(|(id, hash)| known.conflicts(*id, *hash, now)).collect()
        };
        if candidates.is_empty() {
            return false;
        }
        // This is rare and its future has 10 KB, so it is boxed: otherwise every request's future would contain it.
        let lookup = Box::pin(self.conflict_in_store(&candidates, now));
        matches!(timeout(IDS_LOOKUP_DURATION_MAX, lookup).await, Ok(Ok(true)))
    }

    /// Returns whether the store has another event for one of these ids.
    async fn conflict_in_store(&self, names: &[EventName], now: Millis) -> Result<bool, StoreError> {
        for (id, hash) in names {
            if self.store.first_hash(*id, now).await? != Some(*hash) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Remembers the id of a durable event. Returns true if the event is certainly a repeat: an earlier event with this
    /// id and body counts, and its id has not expired. `skipped` has the decisions of the deduplicator.
    pub fn note(&self, (id, hash): EventName, durable: Durable, skipped: &SkippedEvents) -> bool {
        let Durable { position, received, window } = durable;
        let window = window.unwrap_or(self.window).as_millis() as i64;
        let expires = Millis(received.0.saturating_add(window));
        let first = event::lock(&self.known).note(id, KnownId { hash, position, expires });
        first.is_some_and(|first| {
            first.position < position && received <= first.expires && skipped.counts(first.position)
        })
    }
}

impl Known {
    fn conflicts(&self, id: EventId, hash: BodyHash, now: Millis) -> bool {
        self.ids.get(&id).is_some_and(|known| known.hash != hash && known.expires >= now)
    }

    /// Returns the event with the same id and body that is known already. It stays known until it expires, because a
    /// repeat does not prolong the time that began with the first receipt.
    fn note(&mut self, id: EventId, new: KnownId) -> Option<KnownId> {
        let first = self.ids.get(&id).copied().filter(|first| first.hash == new.hash);
        if let Some(first) = first
            && first.position < new.position
            && first.expires >= Millis::now()
        {
            return Some(first);
        }
        if self.ids.insert(id, new).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > RECENT_IDS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: usize = 7;

    fn id(n: usize) -> EventId {
        EventId::derived("s", "o", &n.to_string())
    }

    fn known(hash: u8, position: u64, expires: Millis) -> KnownId {
        KnownId { hash: BodyHash([hash; 8]), position, expires }
    }

    #[test]
    fn a_misused_id_is_recognised_until_it_expires_and_the_memory_is_bounded() {
        let (mut recent, now) = (Known::default(), Millis::now());
        for n in 0..RECENT_IDS_MAX + 10 {
            recent.note(id(n), known(1, n as u64, now));
        }
        let last = id(RECENT_IDS_MAX);
        assert!(recent.conflicts(last, BodyHash([2; 8]), now));
        assert!(!recent.conflicts(last, BodyHash([1; 8]), now));
        assert!(!recent.conflicts(last, BodyHash([2; 8]), Millis(now.0 + 1)), "expired");
        assert!(!recent.conflicts(id(0), BodyHash([2; 8]), now), "forgotten");
    }

    /// Says for each event whether it is certainly a repeat. An event is its hash, position and time of receipt.
    async fn repeats(events: &[(u8, u64, i64)], skipped: &SkippedEvents) -> Vec<bool> {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open("sqlite:", None, folder.path()).await.expect("opens");
        let (recent, now) = (RecentIds::new(store, Duration::from_secs(60)), Millis::now());
        let note = |(hash, position, seconds): &(u8, u64, i64)| {
            let received = Millis(now.0 + seconds * 1000);
            let durable = Durable { position: *position, received, window: None };
            recent.note((id(ID), BodyHash([*hash; 8])), durable, skipped)
        };
        events.iter().map(note).collect()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn an_event_is_a_repeat_only_if_the_first_one_counts_and_is_remembered() {
        let skipped = SkippedEvents::default();
        skipped.begin(10);
        // The event at 12 repeats one that an earlier process received, whose window is unknown.
        skipped.add([12].into_iter(), 20);
        assert_eq!(repeats(&[(1, 11, 0), (1, 30, 1), (1, 31, 60)], &skipped).await, [false, true, true]);
        assert_eq!(repeats(&[(1, 11, 0), (1, 30, 61)], &skipped).await, [false, false], "expired");
        assert_eq!(repeats(&[(1, 11, 0), (2, 30, 1)], &skipped).await, [false, false], "another body");
        assert_eq!(repeats(&[(1, 12, 0), (1, 30, 1)], &skipped).await, [false, false], "skipped itself");
        assert_eq!(repeats(&[(1, 25, 0), (1, 30, 1)], &skipped).await, [false, false], "not decided yet");
        assert_eq!(repeats(&[(1, 30, 0), (1, 11, 0)], &skipped).await, [false, false], "noted out of order");
    }
}

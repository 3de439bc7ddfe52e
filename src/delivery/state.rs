//! What is known of each destination: whether a person has paused it, and how its last attempts went.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use event::limits::DELIVERY_POLL_INTERVAL;
use event::{Millis, Stop};
use tokio::sync::watch;

use crate::destinations::{Outcome, Verdict};
use crate::store::{Store, StoreError};

/// The states of all destinations. Clones share them.
#[derive(Clone)]
pub struct DestinationStates(Arc<Shared>);

struct Shared {
    /// The paused destinations, each with the reason.
    paused: watch::Sender<BTreeMap<String, String>>,
    /// Counts what this server pauses and resumes, because a read that began before knows nothing of it.
    decisions: AtomicU64,
    last: Mutex<BTreeMap<String, LastOutcomes>>,
}

/// The last outcomes since the server started.
#[derive(Clone, Debug, Default)]
pub struct LastOutcomes {
    pub sent: Option<Millis>,
    pub failed: Option<(Millis, String)>,
    /// Failures since the last success.
    pub failures_in_a_row: u64,
}

impl Default for DestinationStates {
    fn default() -> Self {
        Self(Arc::new(Shared {
            paused: watch::Sender::default(),
            decisions: AtomicU64::new(0),
            last: Mutex::default(),
        }))
    }
}

impl DestinationStates {
    pub fn is_paused(&self, name: &str) -> bool {
        self.0.paused.borrow().contains_key(name)
    }

    /// Returns why a destination is paused.
    pub fn pause_of(&self, name: &str) -> Option<String> {
        self.0.paused.borrow().get(name).cloned()
    }

    /// Returns a signal that changes when a destination is paused or resumed.
    pub fn follow(&self) -> watch::Receiver<BTreeMap<String, String>> {
        self.0.paused.subscribe()
    }

    pub async fn pause(&self, store: &Store, name: &str, reason: &str) -> Result<(), StoreError> {
        let pause = || {
            self.0.decisions.fetch_add(1, Ordering::SeqCst);
            self.0.paused.send_modify(|paused| drop(paused.insert(name.to_owned(), reason.to_owned())));
        };
        // This server pauses at once, even if the store does not answer.
        pause();
        store.pause_destination(name, Some(reason)).await?;
        // A read in between may have ended the pause here.
        pause();
        Ok(())
    }

    pub async fn resume(&self, store: &Store, name: &str) -> Result<(), StoreError> {
        store.pause_destination(name, None).await?;
        self.0.decisions.fetch_add(1, Ordering::SeqCst);
        self.0.paused.send_modify(|paused| drop(paused.remove(name)));
        Ok(())
    }

    pub fn note_outcome(&self, name: &str, outcome: &Outcome) {
        let mut last = event::lock(&self.0.last);
        let last = last.entry(name.to_owned()).or_default();
        if outcome.verdict == Verdict::Sent {
            last.sent = Some(Millis::now());
            last.failures_in_a_row = 0;
        } else {
            last.failed = Some((Millis::now(), outcome.error.clone().unwrap_or_default()));
            last.failures_in_a_row += 1;
        }
    }

    pub fn last_of(&self, name: &str) -> LastOutcomes {
        event::lock(&self.0.last).get(name).cloned().unwrap_or_default()
    }

    /// Reads which destinations are paused. Fails while the store does not answer.
    pub async fn read(&self, store: &Store) -> Result<(), StoreError> {
        let decisions = self.0.decisions.load(Ordering::SeqCst);
        let stored: BTreeMap<String, String> = store.paused_destinations().await?.into_iter().collect();
        self.0.paused.send_if_modified(|paused| {
            if self.0.decisions.load(Ordering::SeqCst) != decisions {
                return false;
            }
            let differs = *paused != stored;
            *paused = stored;
            differs
        });
        Ok(())
    }

    /// Follows what other nodes pause and resume.
    pub async fn keep_reading(self, store: Store, stop: Stop) {
        const INTERVAL: Duration = DELIVERY_POLL_INTERVAL;
        while !stop.within(INTERVAL).await {
            if let Err(error) = self.read(&store).await {
                tracing::debug!(%error, "the states of destinations could not be read");
            }
        }
    }
}

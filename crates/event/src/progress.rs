//! What was applied up to where: each view publishes its position here, and whoever waits for an event
//! to be visible, or shows lag, reads it. Views write, doors and the reading API listen; neither knows
//! the other.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::sync::watch;

/// Where one view stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Everything below this position is applied.
    pub position: u64,
    /// Why the view stands still, in words for the operator.
    pub stalled: Option<Stalled>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stalled {
    /// The store does not answer, or is busy: tried again for ever.
    Waiting(String),
    /// Somebody has to do something: a missing table, a lost right, a column that is too narrow.
    Paused(String),
}

/// All views of this node by name.
#[derive(Clone, Default)]
pub struct Progress {
    views: Arc<RwLock<BTreeMap<String, Entry>>>,
}

struct Entry {
    /// What it applies; the gate, in front of all views, has none of its own.
    stream: Option<String>,
    applied: watch::Sender<Applied>,
}

impl Progress {
    /// A view's own line, to be written by its runner alone.
    pub fn register(&self, view: &str, stream: &str) -> watch::Sender<Applied> {
        self.add(view, Some(stream))
    }

    /// The gate's line, which is shown under `name` beside the views.
    pub fn register_dedup(&self, name: &str) -> watch::Sender<Applied> {
        self.add(name, None)
    }

    fn add(&self, view: &str, stream: Option<&str>) -> watch::Sender<Applied> {
        let (sender, _) = watch::channel(Applied::default());
        let entry = Entry { stream: stream.map(str::to_owned), applied: sender.clone() };
        self.views.write().expect("no panic while holding the lock").insert(view.to_owned(), entry);
        sender
    }

    pub fn all(&self) -> BTreeMap<String, Applied> {
        self.shown(|_| true)
    }

    /// The views of one stream alone.
    pub fn of_stream(&self, stream: &str) -> BTreeMap<String, Applied> {
        self.shown(|entry| entry.stream.as_deref() == Some(stream))
    }

    fn shown(&self, which: impl Fn(&Entry) -> bool) -> BTreeMap<String, Applied> {
        let views = self.views.read().expect("no panic while holding the lock");
        let entries = views.iter().filter(|(_, entry)| which(entry));
        entries.map(|(name, entry)| (name.clone(), entry.applied.borrow().clone())).collect()
    }

    /// Waits until every view has applied all below `end`, or stands still for a person to look at.
    /// Whether all have; `false` after `patience`, too.
    pub async fn drained(&self, end: u64, patience: Duration) -> bool {
        let receivers: Vec<watch::Receiver<Applied>> = {
            let views = self.views.read().expect("no panic while holding the lock");
            views.values().map(|entry| entry.applied.subscribe()).collect()
        };
        let all = async {
            let mut all = true;
            for mut receiver in receivers {
                let settled = |applied: &Applied| {
                    applied.position >= end || matches!(applied.stalled, Some(Stalled::Paused(_)))
                };
                let applied = receiver.wait_for(settled).await;
                all &= applied.is_ok_and(|applied| applied.position >= end);
            }
            all
        };
        tokio::time::timeout(patience, all).await.unwrap_or(false)
    }

    /// Waits until every view of `stream` has applied all below `end`. `false` after `patience`.
    pub async fn reached(&self, stream: &str, end: u64, patience: Duration) -> bool {
        self.all_reached(Some(stream), end, patience).await
    }

    /// Waits until the gate has seen all below `end`. `false` after `patience`.
    pub async fn dedup_reached(&self, end: u64, patience: Duration) -> bool {
        self.all_reached(None, end, patience).await
    }

    async fn all_reached(&self, stream: Option<&str>, end: u64, patience: Duration) -> bool {
        let receivers: Vec<watch::Receiver<Applied>> = {
            let views = self.views.read().expect("no panic while holding the lock");
            views
                .values()
                .filter(|entry| entry.stream.as_deref() == stream)
                .map(|entry| entry.applied.subscribe())
                .collect()
        };
        let all = async {
            for mut receiver in receivers {
                if receiver.wait_for(|applied| applied.position >= end).await.is_err() {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(patience, all).await.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_gate_is_waited_for_apart_from_the_views() {
        let progress = Progress::default();
        let gate = progress.register_dedup("gate");
        let view = progress.register("revenue", "sales");
        progress.register("other", "others");
        let names = |shown: BTreeMap<String, Applied>| shown.into_keys().collect::<Vec<_>>();
        assert_eq!(names(progress.of_stream("sales")), ["revenue"]);
        assert_eq!(names(progress.all()), ["gate", "other", "revenue"]);
        let applied = |position| Applied { position, stalled: None };
        gate.send_replace(applied(7));
        assert!(progress.dedup_reached(7, Duration::ZERO).await);
        assert!(!progress.reached("sales", 7, Duration::ZERO).await);
        view.send_replace(applied(8));
        assert!(progress.reached("sales", 8, Duration::ZERO).await);
        assert!(!progress.dedup_reached(8, Duration::ZERO).await);
    }
}

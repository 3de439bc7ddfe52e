//! Finds out what other nodes have committed to the same database: they have logs of their own, and nobody tells this
//! node of their changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use event::limits::OTHER_NODES_INTERVAL;
use event::{LogId, Stop};

use crate::store::{Generation, Store, ViewPosition};
use crate::views::{Changes, Running};

/// The subscriptions of this node. Without any, nobody looks for changes. Clones share the number.
#[derive(Clone)]
pub struct Watchers(Arc<Count>);

struct Count {
    now: AtomicUsize,
    gauge: metrics::Gauge,
}

/// One subscription. Dropping it ends it.
pub struct Watcher(Watchers);

impl Watchers {
    pub fn new() -> Self {
        Self(Arc::new(Count { now: AtomicUsize::new(0), gauge: metrics::gauge!("millrace_subscriptions") }))
    }

    pub fn add(&self) -> Watcher {
        self.0.now.fetch_add(1, Ordering::Relaxed);
        self.0.gauge.increment(1.0);
        Watcher(self.clone())
    }

    fn is_empty(&self) -> bool {
        self.0.now.load(Ordering::Relaxed) == 0
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let Watchers(count) = &self.0;
        count.now.fetch_sub(1, Ordering::Relaxed);
        count.gauge.decrement(1.0);
    }
}

/// The positions of one view in the logs of other nodes, and its generations.
type ViewState = (Vec<(LogId, u64)>, Vec<Generation>);

/// Looks for changes until the server stops.
pub async fn watch_positions(
    store: Store,
    own: LogId,
    views: BTreeMap<String, Running>,
    watchers: Watchers,
    stop: Stop,
) {
    let changes: BTreeMap<String, Changes> =
        views.into_iter().map(|(name, running)| (name, running.changes)).collect();
    let mut known: BTreeMap<String, ViewState> = BTreeMap::new();
    while !stop.within(OTHER_NODES_INTERVAL).await {
        if watchers.is_empty() {
            continue;
        }
        // Without an answer, the next look finds everything.
        let Ok(positions) = store.positions().await else { continue };
        for (view, changes) in &changes {
            let now = state_of(&positions, view, own);
            if known.get(view) != Some(&now) {
                known.insert(view.clone(), now);
                changes.note_all();
            }
        }
    }
}

fn state_of(positions: &[ViewPosition], view: &str, own: LogId) -> ViewState {
    let of_view = || positions.iter().filter(|row| row.view == view);
    let others = of_view().filter(|row| row.log != own).map(|row| (row.log, row.position));
    (others.collect(), of_view().map(|row| row.generation).collect())
}

//! The log's past: whoever needs it to stay as it is holds it, and whoever gives up what is old waits for its
//! turn. So no rebuild takes what is left for all there was, and no correction comes in for what is just
//! being given up.

use std::sync::Arc;

use event::limits::RETENTION_TURN_DURATION_MAX;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};
use tokio::time::timeout;

#[derive(Clone, Default)]
pub struct HistoryLock(Arc<RwLock<()>>);

/// Nothing is given up until this is dropped.
pub struct HistoryHeld {
    _guard: OwnedRwLockReadGuard<()>,
}

/// Nobody holds the past until this is dropped.
pub struct HistoryDeletion {
    _guard: OwnedRwLockWriteGuard<()>,
}

impl HistoryLock {
    pub async fn hold(&self) -> HistoryHeld {
        HistoryHeld { _guard: Arc::clone(&self.0).read_owned().await }
    }

    /// `None` where somebody holds it for longer than others should have to wait behind this.
    pub async fn give_up(&self) -> Option<HistoryDeletion> {
        let turn = timeout(RETENTION_TURN_DURATION_MAX, Arc::clone(&self.0).write_owned()).await;
        turn.ok().map(|guard| HistoryDeletion { _guard: guard })
    }
}

//! A lock between readers of old events and retention, which deletes them. Without it, a rebuild could miss events
//! that are deleted while it runs, and a correction could be accepted for an event that is just being deleted.

use std::sync::Arc;

use event::limits::RETENTION_LOCK_DURATION_MAX;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};
use tokio::time::timeout;

/// The lock. Clones share it.
#[derive(Clone, Default)]
pub struct HistoryLock(Arc<RwLock<()>>);

/// No old event is deleted until this is dropped.
pub struct HistoryGuard {
    _guard: OwnedRwLockReadGuard<()>,
}

/// The holder may delete old events. All `HistoryLock::hold` calls wait until this is dropped.
pub struct DeletionGuard {
    _guard: OwnedRwLockWriteGuard<()>,
}

impl HistoryLock {
    /// Waits until no deletion is under way, and keeps further deletions away.
    pub async fn hold(&self) -> HistoryGuard {
        HistoryGuard { _guard: Arc::clone(&self.0).read_owned().await }
    }

    /// Locks the history for a deletion. Returns `None` if others hold it for too long: further holders would have to
    /// wait behind this request.
    pub async fn lock_for_deletion(&self) -> Option<DeletionGuard> {
        let lock = timeout(RETENTION_LOCK_DURATION_MAX, Arc::clone(&self.0).write_owned()).await;
        lock.ok().map(|guard| DeletionGuard { _guard: guard })
    }
}

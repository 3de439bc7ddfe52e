//! A lock between the correction of an event and the retry of its dead letter. Each first checks that the other has
//! not happened, and must be in the log before the other one checks. Corrections may run at the same time; a retry
//! runs alone.

use std::sync::Arc;

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// The lock. Clones share it.
#[derive(Clone, Default)]
pub struct CorrectionLock(Arc<RwLock<()>>);

/// No dead letter is retried until this is dropped.
pub struct CorrectionGuard {
    _guard: OwnedRwLockReadGuard<()>,
}

/// No event is corrected, and no other dead letter is retried, until this is dropped.
pub struct ResendGuard {
    _guard: OwnedRwLockWriteGuard<()>,
}

impl CorrectionLock {
    /// Waits until no retry is under way.
    pub async fn lock_for_correction(&self) -> CorrectionGuard {
        CorrectionGuard { _guard: Arc::clone(&self.0).read_owned().await }
    }

    /// Waits until no correction and no other retry is under way.
    pub async fn lock_for_resend(&self) -> ResendGuard {
        ResendGuard { _guard: Arc::clone(&self.0).write_owned().await }
    }
}

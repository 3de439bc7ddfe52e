//! Taking an event back and sending its dead letter again: each looks first whether the other was there, and has
//! to be in the log before the other looks. Corrections come in beside each other; a letter sent again comes alone.

use std::sync::Arc;

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

#[derive(Clone, Default)]
pub struct CorrectionLock(Arc<RwLock<()>>);

/// No letter is sent again until this is dropped.
pub struct Correcting {
    _guard: OwnedRwLockReadGuard<()>,
}

/// Nothing is taken back, and no other letter sent again, until this is dropped.
pub struct Resending {
    _guard: OwnedRwLockWriteGuard<()>,
}

impl CorrectionLock {
    pub async fn take_back(&self) -> Correcting {
        Correcting { _guard: Arc::clone(&self.0).read_owned().await }
    }

    pub async fn send_again(&self) -> Resending {
        Resending { _guard: Arc::clone(&self.0).write_owned().await }
    }
}

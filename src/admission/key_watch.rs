//! The key of a connection that stays open: whether it still counts, and when that has to be looked up again.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{HeldKey, Keys};

/// A clock that is set may expire a key earlier or later than its remaining time says.
const CHECK_INTERVAL_MAX: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy, Debug)]
pub struct KeyWatch {
    /// `None` if the connection needs no key.
    held: Option<HeldKey>,
    check_at: Option<Instant>,
}

impl KeyWatch {
    pub fn new(held: Option<HeldKey>, now: Instant) -> Self {
        let mut watch = Self { held, check_at: None };
        watch.set_check(now);
        watch
    }

    /// Returns whether the key was not revoked and has not expired.
    pub fn holds(&self, keys: &Keys) -> bool {
        self.held.as_ref().is_none_or(|held| keys.still_hold(held))
    }

    /// Returns the number under which requests with the key are counted.
    pub fn counted_as(&self) -> Option<u128> {
        self.held.as_ref().map(HeldKey::counted_as)
    }

    /// Returns when the key has to be checked even if nothing arrives.
    pub fn deadline(&self) -> Option<Instant> {
        self.check_at
    }

    /// Notes that the key was checked, if that was due.
    pub fn checked(&mut self, now: Instant) {
        if self.check_at.is_some_and(|at| now >= at) {
            self.set_check(now);
        }
    }

    fn set_check(&mut self, now: Instant) {
        let left = self.held.as_ref().and_then(HeldKey::time_left);
        // A key that expires is checked just after that.
        self.check_at = left.map(|left| now + left.min(CHECK_INTERVAL_MAX) + Duration::from_millis(1));
    }
}

/// Waits until a key was revoked, which may be any key.
pub async fn next_revocation(mut revocations: watch::Receiver<()>) {
    if revocations.changed().await.is_err() {
        // The server ends.
        std::future::pending::<()>().await;
    }
}

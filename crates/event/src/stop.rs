//! The signal to stop, for everything that runs until the process ends.

use std::time::Duration;

use tokio::sync::watch;

/// A stop signal. Clones share it, and it cannot be withdrawn.
#[derive(Clone)]
pub struct Stop {
    asked: watch::Sender<bool>,
}

impl Default for Stop {
    fn default() -> Self {
        Self { asked: watch::channel(false).0 }
    }
}

impl Stop {
    /// Gives the signal.
    pub fn ask(&self) {
        self.asked.send_replace(true);
    }

    /// Returns whether the signal was given.
    pub fn asked(&self) -> bool {
        *self.asked.borrow()
    }

    /// Waits for the signal.
    pub async fn wait(&self) {
        // `self` keeps the sender alive, so this ends only with the signal and never with an error.
        let _ = self.asked.subscribe().wait_for(|asked| *asked).await;
    }

    /// Waits for `pause`, or until the signal is given. Returns whether it was given.
    pub async fn within(&self, pause: Duration) -> bool {
        tokio::time::timeout(pause, self.wait()).await.is_ok()
    }
}

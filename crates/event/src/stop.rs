//! The order to stop, as everybody hears it who runs for as long as the process does.

use std::time::Duration;

use tokio::sync::watch;

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
    pub fn ask(&self) {
        self.asked.send_replace(true);
    }

    pub fn asked(&self) -> bool {
        *self.asked.borrow()
    }

    pub async fn wait(&self) {
        // The sender lives in `self`, so that the wait ends only by the order.
        let _ = self.asked.subscribe().wait_for(|asked| *asked).await;
    }

    /// Lets `pause` pass; `true` as soon as the order is there.
    pub async fn within(&self, pause: Duration) -> bool {
        tokio::time::timeout(pause, self.wait()).await.is_ok()
    }
}

//! Deletes attempts that are older than they are kept.

use event::limits::{ATTEMPTS_KEPT_DURATION, OLD_ATTEMPTS_INTERVAL, OLD_ATTEMPTS_ROWS_MAX};
use event::{Millis, Stop};

use crate::store::Store;

pub async fn forget_old_attempts(store: Store, stop: Stop) {
    loop {
        let before = Millis(Millis::now().0 - ATTEMPTS_KEPT_DURATION.as_millis() as i64);
        loop {
            match store.forget_old_attempts(before, OLD_ATTEMPTS_ROWS_MAX).await {
                Ok(true) if !stop.asked() => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::debug!(%error, "old attempts could not be deleted; millrace tries again later");
                    break;
                }
            }
        }
        if stop.within(OLD_ATTEMPTS_INTERVAL).await {
            return;
        }
    }
}

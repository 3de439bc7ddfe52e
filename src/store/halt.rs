//! The reason why dedup or a view cannot go on after a store error.

use event::{Applied, Stalled};
use tokio::sync::watch;

use super::StoreError;

#[derive(Debug)]
pub enum Halt {
    /// Paused until a person acts, or until a later check finds the problem solved.
    Pause(String),
    /// The failure is temporary.
    Wait(String),
    /// The stored position or definition is not the expected one, so it has to be read again.
    ReadAgain(String),
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Transient(_) => Self::Wait(error.to_string()),
            StoreError::Claimed { .. } | StoreError::Redefined(_) => Self::ReadAgain(error.to_string()),
            StoreError::NoTable(table) if !table.starts_with("millrace_") => Self::Pause(format!(
                "table `{table}` does not exist; restore it, or run `millrace view rebuild VIEW` to recreate it from the log"
            )),
            StoreError::Data(_) | StoreError::Blocked(_) | StoreError::NoTable(_) | StoreError::Closed => {
                Self::Pause(error.to_string())
            }
        }
    }
}

/// Publishes that dedup or a view is paused. Returns whether the reason is new, so that it is logged once.
pub fn publish_pause(progress: &watch::Sender<Applied>, reason: &str) -> bool {
    let stalled = Some(Stalled::Paused(reason.to_owned()));
    progress.send_if_modified(|applied| {
        let is_new = applied.stalled != stalled;
        applied.stalled.clone_from(&stalled);
        is_new
    })
}

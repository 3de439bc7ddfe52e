//! Checks that the files of an open log are still at their paths. If a file was moved, removed or replaced, the next
//! open would not find what was written to it.

use std::time::{Duration, Instant};

use crate::disk::DiskError;
use crate::log_state::LogState;

pub(crate) const FILES_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The largest number of sealed segments in one check. The next check continues after them.
const SEALED_CHECKED_MAX: usize = 64;

/// The progress of the checks.
pub(crate) struct FilesCheck {
    last_check: Instant,
    /// The next check starts with the sealed segments at or after this position.
    next_position: u64,
}

impl FilesCheck {
    pub(crate) fn new() -> Self {
        Self { last_check: Instant::now(), next_position: 0 }
    }

    /// Returns whether the last check is at least `FILES_CHECK_INTERVAL` ago, and starts the interval again.
    pub(crate) fn is_due(&mut self) -> bool {
        let due = self.last_check.elapsed() >= FILES_CHECK_INTERVAL;
        if due {
            self.last_check = Instant::now();
        }
        due
    }

    /// Fails if one of the next sealed segments is not at its path, or is too short.
    pub(crate) fn expect_sealed(&mut self, state: &LogState) -> Result<(), DiskError> {
        // No segment can be trimmed in the meantime, because only the writer's thread moves the log's beginning.
        let sealed = state.sealed_from(self.next_position, SEALED_CHECKED_MAX);
        for segment in &sealed {
            state.disk.expect_bytes(&segment.path, segment.durable_bytes())?;
        }
        self.next_position = match sealed.last() {
            Some(last) if sealed.len() == SEALED_CHECKED_MAX => last.first + 1,
            _ => 0,
        };
        Ok(())
    }
}

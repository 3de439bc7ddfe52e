//! Checks that the files of an open log are still where they were opened. If somebody moved, removed or replaced one,
//! the next open does not find what was written to it.

use std::time::{Duration, Instant};

use crate::disk::DiskError;
use crate::writer::Writer;

pub(crate) const FILES_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Sealed segments that are checked each time, in turns.
const SEALED_CHECKED_MAX: usize = 64;

/// The progress of the checks.
pub(crate) struct FilesCheck {
    at: Instant,
    /// From this position on, sealed segments are checked next.
    next: u64,
}

impl FilesCheck {
    pub(crate) fn beginning() -> Self {
        Self { at: Instant::now(), next: 0 }
    }
}

impl Writer {
    pub(crate) fn check_files_in_time(&mut self) {
        if self.checked.at.elapsed() >= FILES_CHECK_INTERVAL && self.poisoned.is_none() {
            self.checked.at = Instant::now();
            self.check_files();
        }
    }

    /// Poisons the log if one of its files is not in its place.
    pub(crate) fn check_files(&mut self) {
        if let Err(error) = self.expect_files_in_place() {
            self.poison(None, error.line());
        }
    }

    fn expect_files_in_place(&mut self) -> Result<(), DiskError> {
        self.disk.expect_folder(&self.folder, &self.lock)?;
        self.file.expect_in_place(&self.disk, self.synced_bytes)?;
        self.mark.expect_in_place(&self.disk)?;
        // None is trimmed meanwhile: the log's beginning is moved by this thread.
        let sealed = self.shared.sealed_from(self.checked.next, SEALED_CHECKED_MAX);
        for segment in &sealed {
            self.disk.expect_bytes(&segment.path, segment.durable_bytes())?;
        }
        self.checked.next = match sealed.last() {
            Some(last) if sealed.len() == SEALED_CHECKED_MAX => last.first + 1,
            _ => 0,
        };
        Ok(())
    }
}

//! Free space on the disk of the data folder. A reserve stays free: if only the reserve is left, new events are
//! refused, and views can still write.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use event::limits::{DISK_CHECK_INTERVAL, DISK_FREE_BYTES_MIN, DISK_FREE_SHARE_MIN};

/// The bytes of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskBytes {
    pub free: u64,
    pub total: u64,
}

impl DiskBytes {
    /// Returns the bytes of the disk of `folder`, or `None` if the system cannot tell.
    pub fn of(folder: &Path) -> Option<Self> {
        let disk = rustix::fs::statvfs(folder).ok()?;
        Some(Self { free: disk.f_bavail * disk.f_frsize, total: disk.f_blocks * disk.f_frsize })
    }

    /// Returns the bytes that stay free: below them, new events are refused.
    pub fn reserve(self) -> u64 {
        DISK_FREE_BYTES_MIN.min(self.total / DISK_FREE_SHARE_MIN)
    }
}

/// Returns the free bytes on the disk of `folder` beyond the reserve, or `None` if the system cannot tell.
pub fn beyond_reserve(folder: &Path) -> Option<u64> {
    let disk = DiskBytes::of(folder)?;
    Some(disk.free.saturating_sub(disk.reserve()))
}

/// The free space at the last check, and the bytes that were taken since then.
pub struct DiskSpace {
    beyond_reserve: AtomicU64,
    /// Bytes appended since the last check. Appends that were queued at that moment are not included; they are much
    /// smaller than the reserve.
    taken: AtomicU64,
}

impl DiskSpace {
    /// Starts a thread that checks the disk at intervals. It is a separate thread because a faulty disk may block.
    pub fn watched(folder: PathBuf) -> std::io::Result<Arc<Self>> {
        let disk_space = Arc::new(Self::unlimited());
        let watched = Arc::downgrade(&disk_space);
        let watch = move || watch(&folder, &watched);
        event::start_thread("disk-space", watch)?;
        Ok(disk_space)
    }

    /// Returns a value that behaves like an infinite disk and is never checked.
    pub fn unlimited() -> Self {
        Self { beyond_reserve: AtomicU64::new(u64::MAX), taken: AtomicU64::new(0) }
    }

    /// Counts bytes that are about to be appended.
    pub fn take(&self, bytes: usize) {
        self.taken.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Returns whether an append may use more space.
    pub fn is_left(&self) -> bool {
        self.taken.load(Ordering::Relaxed) < self.beyond_reserve.load(Ordering::Relaxed)
    }

    fn check(&self, folder: &Path) {
        let before = self.taken.load(Ordering::Relaxed);
        if let Some(beyond) = beyond_reserve(folder) {
            self.beyond_reserve.store(beyond, Ordering::Relaxed);
            // Bytes that were appended during the check are counted twice until the next one, but never missed.
            self.taken.fetch_sub(before, Ordering::Relaxed);
        }
    }
}

fn watch(folder: &Path, disk_space: &Weak<DiskSpace>) {
    let mut was_left = true;
    while let Some(disk_space) = disk_space.upgrade() {
        disk_space.check(folder);
        let is_left = disk_space.is_left();
        match (was_left, is_left) {
            (true, false) => {
                tracing::warn!("the disk is nearly full: new events are refused, views continue");
            }
            (false, true) => tracing::info!("the disk has free space again: events are accepted"),
            _ => {}
        }
        was_left = is_left;
        drop(disk_space);
        std::thread::sleep(DISK_CHECK_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_taken_since_the_last_check_reduce_the_free_space() {
        let disk_space = DiskSpace::unlimited();
        disk_space.take(1 << 30);
        assert!(disk_space.is_left());
        disk_space.beyond_reserve.store((1 << 30) + 1, Ordering::Relaxed);
        assert!(disk_space.is_left());
        disk_space.take(1);
        assert!(!disk_space.is_left());
        let folder = tempfile::tempdir().expect("a folder");
        disk_space.check(folder.path());
        assert_eq!(disk_space.is_left(), beyond_reserve(folder.path()).is_some_and(|beyond| beyond > 0));
    }
}

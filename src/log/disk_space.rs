//! Room on the disk of the data folder. A reserve is kept free, so that views go on while new events are refused.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use event::limits::{DISK_CHECK_INTERVAL, DISK_FREE_BYTES_MIN, DISK_FREE_SHARE_MIN};

/// What is free on the disk of `folder` beyond the reserve; `None` where the disk does not say.
pub fn beyond_reserve(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    let (total, free) = (disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize);
    Some(free.saturating_sub(DISK_FREE_BYTES_MIN.min(total / DISK_FREE_SHARE_MIN)))
}

/// As the disk was at the last look, less what was taken since.
pub struct DiskSpace {
    beyond_reserve: AtomicU64,
    /// Bytes appended since. What was in line at that moment is not among them, and much less than the reserve.
    since: AtomicU64,
}

impl DiskSpace {
    /// Has the disk looked at, now and then, on a thread of its own because a sick disk may not answer.
    pub fn watched(folder: PathBuf) -> Arc<Self> {
        let disk_space = Arc::new(Self::unwatched());
        let watched = Arc::downgrade(&disk_space);
        let watch = move || watch(&folder, &watched);
        std::thread::Builder::new()
            .name("disk-room".to_owned())
            .spawn(watch)
            .expect("a thread can be started");
        disk_space
    }

    /// As if the disk had no end.
    pub fn unwatched() -> Self {
        Self { beyond_reserve: AtomicU64::new(u64::MAX), since: AtomicU64::new(0) }
    }

    pub fn take(&self, bytes: usize) {
        self.since.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn is_left(&self) -> bool {
        self.since.load(Ordering::Relaxed) < self.beyond_reserve.load(Ordering::Relaxed)
    }

    fn look(&self, folder: &Path) {
        let before = self.since.load(Ordering::Relaxed);
        if let Some(beyond) = beyond_reserve(folder) {
            self.beyond_reserve.store(beyond, Ordering::Relaxed);
            // What came meanwhile is counted twice until the next look, and never not at all.
            self.since.fetch_sub(before, Ordering::Relaxed);
        }
    }
}

fn watch(folder: &Path, disk_space: &Weak<DiskSpace>) {
    let mut was_left = true;
    while let Some(disk_space) = disk_space.upgrade() {
        disk_space.look(folder);
        let is_left = disk_space.is_left();
        match (was_left, is_left) {
            (true, false) => tracing::warn!("the disk is nearly full: new events are refused, views go on"),
            (false, true) => tracing::info!("there is room on the disk: events are taken again"),
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
    fn what_was_taken_since_the_disk_was_looked_at_is_no_room_any_more() {
        let disk_space = DiskSpace::unwatched();
        disk_space.take(1 << 30);
        assert!(disk_space.is_left());
        disk_space.beyond_reserve.store((1 << 30) + 1, Ordering::Relaxed);
        assert!(disk_space.is_left());
        disk_space.take(1);
        assert!(!disk_space.is_left());
        let folder = tempfile::tempdir().expect("a folder");
        disk_space.look(folder.path());
        assert_eq!(disk_space.is_left(), beyond_reserve(folder.path()).is_some_and(|beyond| beyond > 0));
    }
}

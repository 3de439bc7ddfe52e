//! Preallocated space: zeros at the end of the active segment, which later frames overwrite.

use crate::writer::{Failure, Writer};

/// The amount of space that is preallocated at a time.
const PREALLOCATE_BYTES: u64 = 1 << 20;
/// Larger groups are not preallocated. Their sync takes long anyway, and all their bytes would be written twice.
const PREALLOCATE_GROUP_BYTES_MAX: u64 = 64 << 10;

impl Writer {
    /// Writes zeros after the log; they are synced with the group. A sync of overwritten bytes takes half the time of
    /// a sync of a longer file, because it does not have to write the new length and block list.
    pub(crate) fn preallocate(&mut self, group_bytes: u64) -> Result<(), Failure> {
        let end = self.synced_bytes + group_bytes;
        if group_bytes > PREALLOCATE_GROUP_BYTES_MAX || end <= self.preallocated_bytes {
            return Ok(());
        }
        let begin = self.preallocated_bytes.max(self.synced_bytes);
        self.preallocated_bytes = end + PREALLOCATE_BYTES;
        let zeros = vec![0; (self.preallocated_bytes.min(self.segment_bytes_max).max(end) - begin) as usize];
        let written = self.file.write_at(&zeros, begin);
        failpoint::hit("journal.room_made");
        match written {
            // There may still be enough space for the group alone.
            Err(error) if error.is_full() => self.cut_preallocated().map(drop),
            written => Ok(written?),
        }
    }

    /// Truncates the active segment after its last frame, and syncs it. Done before a seal and at a clean stop.
    pub(crate) fn release_preallocated(&mut self) -> Result<(), Failure> {
        if self.preallocated_bytes > self.synced_bytes {
            if !self.cut_preallocated()? {
                return Err(Failure::Full);
            }
            self.file.sync()?;
            self.preallocated_bytes = self.synced_bytes;
        }
        Ok(())
    }

    /// Truncates the file after its last frame. Returns false if the disk is full, because even a truncation needs
    /// space on a copy-on-write file system.
    fn cut_preallocated(&self) -> Result<bool, Failure> {
        match self.file.cut_to(self.synced_bytes) {
            Err(error) if error.is_full() => Ok(false),
            cut => Ok(cut.map(|()| true)?),
        }
    }
}

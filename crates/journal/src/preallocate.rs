//! Room that is made ahead of the log: zeros at the end of the segment that is written.

use crate::failpoint;
use crate::writer::{Failure, Writer};

/// How much room is made at a time, and for groups up to which size: of a larger one the sync takes long anyway,
/// and all its bytes would be written twice.
const PREALLOCATE_BYTES: u64 = 1 << 20;
const PREALLOCATE_GROUP_BYTES_MAX: u64 = 64 << 10;

impl Writer {
    /// Writes zeros ahead of the log, to be synced with the group. Bytes in the place of others are synced in
    /// half the time that it takes to sync a longer file, whose length and blocks are written down as well.
    pub(crate) fn preallocate(&mut self, group_bytes: u64) -> Result<(), Failure> {
        let end = self.synced_bytes + group_bytes;
        if group_bytes > PREALLOCATE_GROUP_BYTES_MAX || end <= self.preallocated_bytes {
            return Ok(());
        }
        let begin = self.preallocated_bytes.max(self.synced_bytes);
        self.preallocated_bytes = end + PREALLOCATE_BYTES;
        let zeros = vec![0; (self.preallocated_bytes.min(self.segment_bytes_max).max(end) - begin) as usize];
        let made = self.file.write_at(&zeros, begin);
        failpoint::hit("journal.room_made");
        match made {
            // The group may find room where so much more did not.
            Err(error) if error.is_full() => self.cut_preallocated().map(drop),
            made => Ok(made?),
        }
    }

    /// A segment that is sealed, or left in order, ends with its last frame.
    pub(crate) fn give_room_back(&mut self) -> Result<(), Failure> {
        if self.preallocated_bytes > self.synced_bytes {
            if !self.cut_preallocated()? {
                return Err(Failure::Full);
            }
            self.file.sync()?;
            self.preallocated_bytes = self.synced_bytes;
        }
        Ok(())
    }

    /// False where there is no room to: on a file system that copies on write, a cut may take some.
    fn cut_preallocated(&self) -> Result<bool, Failure> {
        match self.file.cut_to(self.synced_bytes) {
            Err(error) if error.is_full() => Ok(false),
            cut => Ok(cut.map(|()| true)?),
        }
    }
}

//! The file `durable`, which records how far the log is known to be synced. It is written after the sync of each
//! group. The next open reads it to tell damage from a torn tail.

use std::path::Path;

use crate::LogId;
use crate::disk::{Disk, DiskError, DiskFile};
use crate::frame::{u32_at, u64_at};
use crate::segment::{FORMAT_VERSION, write_whole};

pub(crate) const MARK_FILE: &str = "durable";

/// Each slot has its own disk sector, so that a torn write can destroy only one of them.
const SLOT_STEP_BYTES: usize = 512;
const SLOT_BYTES: usize = 76;
const MAGIC: &[u8; 8] = b"MRDURABL";
const CLEAN_STOP: u32 = 1;

/// A fact about the log. It was true when it was written, and it stays true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub log_id: LogId,
    pub sequence: u64,
    /// The lowest position in the log.
    pub begin: u64,
    /// All positions below are synced.
    pub end: u64,
    /// The first position of the segment that was active.
    pub segment_first: u64,
    /// The number of synced bytes of that segment.
    pub offset: u64,
    pub clean_stop: bool,
}

/// The content of the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MarkFound {
    pub newest: Option<Mark>,
    /// The version of a slot that only a newer program can read.
    pub newer_version: Option<u32>,
}

impl Mark {
    fn to_bytes(self) -> [u8; SLOT_BYTES] {
        let mut bytes = [0; SLOT_BYTES];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        let flags = if self.clean_stop { CLEAN_STOP } else { 0 };
        bytes[12..16].copy_from_slice(&flags.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.log_id.0);
        let numbers = [self.sequence, self.begin, self.end, self.segment_first, self.offset];
        for (slot, number) in bytes[32..72].chunks_exact_mut(8).zip(numbers) {
            slot.copy_from_slice(&number.to_le_bytes());
        }
        let checksum = crc32fast::hash(&bytes[0..72]);
        bytes[72..76].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Parses a slot. Returns `None` if it is not intact, or its version if that is not the version of this program.
    fn parse(slot: &[u8]) -> Option<Result<Self, u32>> {
        let bytes = slot.first_chunk::<SLOT_BYTES>()?;
        if &bytes[0..8] != MAGIC || crc32fast::hash(&bytes[0..72]) != u32_at(bytes, 72) {
            return None;
        }
        let version = u32_at(bytes, 8);
        if version != FORMAT_VERSION {
            return Some(Err(version));
        }
        let mut id = [0; 16];
        id.copy_from_slice(&bytes[16..32]);
        Some(Ok(Self {
            log_id: LogId(id),
            sequence: u64_at(bytes, 32),
            begin: u64_at(bytes, 40),
            end: u64_at(bytes, 48),
            segment_first: u64_at(bytes, 56),
            offset: u64_at(bytes, 64),
            clean_stop: u32_at(bytes, 12) & CLEAN_STOP != 0,
        }))
    }
}

/// Reads the newest intact mark. A missing or damaged file is not an error, because it only proves nothing.
pub(crate) fn read_marks(disk: &Disk, folder: &Path) -> Result<MarkFound, DiskError> {
    let bytes = disk.read(&folder.join(MARK_FILE))?.unwrap_or_default();
    let mut found = MarkFound::default();
    for slot in bytes.chunks(SLOT_STEP_BYTES).take(2) {
        match Mark::parse(slot) {
            Some(Ok(mark)) if found.newest.is_none_or(|m| m.sequence < mark.sequence) => {
                found.newest = Some(mark);
            }
            Some(Err(version)) => found.newer_version = Some(version),
            _ => {}
        }
    }
    Ok(found)
}

/// The mark file of an open log.
pub(crate) struct MarkFile {
    file: DiskFile,
    sequence: u64,
    unsynced: bool,
}

impl MarkFile {
    /// Durably replaces the file by one that contains only this mark.
    pub(crate) fn create(disk: &Disk, folder: &Path, mark: Mark) -> Result<Self, DiskError> {
        let bytes = file_bytes(mark);
        let failpoints = ["journal.mark_created", "journal.mark_renamed"];
        Ok(Self {
            file: write_whole(disk, folder, MARK_FILE, &bytes, failpoints)?,
            sequence: mark.sequence,
            unsynced: false,
        })
    }

    /// Overwrites the older of the two marks, and does not sync the file. The mark is only evidence; the group that
    /// it describes is already synced. Returns false if the disk is full.
    pub(crate) fn record(&mut self, mark: Mark) -> Result<bool, DiskError> {
        let sequence = self.sequence + 1;
        let mark = Mark { sequence, ..mark };
        match self.file.write_at(&mark.to_bytes(), slot_offset(sequence) as u64) {
            Err(error) if error.is_full() => return Ok(false),
            outcome => outcome?,
        }
        self.sequence = sequence;
        self.unsynced = true;
        Ok(true)
    }

    /// Fails if the file was moved, removed or replaced, because the next open would not find these marks.
    pub(crate) fn expect_at_path(&self, disk: &Disk) -> Result<(), DiskError> {
        self.file.expect_at_path(disk, 2 * SLOT_STEP_BYTES as u64)
    }

    pub(crate) fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    pub(crate) fn sync(&mut self) -> Result<(), DiskError> {
        if self.unsynced {
            self.file.sync()?;
            self.unsynced = false;
        }
        Ok(())
    }
}

/// Returns the content of a mark file that contains only this mark.
pub(crate) fn file_bytes(mark: Mark) -> [u8; 2 * SLOT_STEP_BYTES] {
    let mut bytes = [0; 2 * SLOT_STEP_BYTES];
    let at = slot_offset(mark.sequence);
    bytes[at..at + SLOT_BYTES].copy_from_slice(&mark.to_bytes());
    bytes
}

fn slot_offset(sequence: u64) -> usize {
    (sequence % 2) as usize * SLOT_STEP_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_mark_survives_a_round_trip(id: [u8; 16], numbers: [u64; 5], clean_stop: bool) {
            let [sequence, begin, end, segment_first, offset] = numbers;
            let log_id = LogId(id);
            let mark = Mark { log_id, sequence, begin, end, segment_first, offset, clean_stop };
            prop_assert_eq!(Mark::parse(&mark.to_bytes()), Some(Ok(mark)));
        }
    }
}

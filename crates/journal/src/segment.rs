//! A segment is one file of the log: a header, then frames. This module contains its file name, its header, and the
//! in-memory state that the writer and readers share.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::LogId;
use crate::disk::{Disk, DiskError, DiskFile};
use crate::frame::{u32_at, u64_at};

pub(crate) const SEGMENT_HEADER_BYTES: usize = 48;
pub(crate) const FORMAT_VERSION: u32 = 1;

/// The smallest distance between two entries of the sparse index for random access.
const INDEX_STEP_BYTES: u64 = 64 << 10;
const MAGIC: &[u8; 8] = b"MRJSEGMT";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub log_id: LogId,
    pub first: u64,
    /// The length of the previous segment, so that a change of its length is detected; 0 if there was none.
    pub previous_bytes: u64,
}

/// Why a file does not start with a valid segment header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    Damaged(&'static str),
    Newer(u32),
}

impl SegmentHeader {
    pub(crate) fn to_bytes(self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.log_id.0);
        bytes[32..40].copy_from_slice(&self.first.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.previous_bytes.to_le_bytes());
        let checksum = header_checksum(&bytes);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, HeaderFault> {
        let Some(bytes) = bytes.first_chunk::<SEGMENT_HEADER_BYTES>() else {
            return Err(HeaderFault::Damaged("the segment header is incomplete"));
        };
        if &bytes[0..8] != MAGIC {
            return Err(HeaderFault::Damaged("the file does not start with a segment header"));
        }
        // The checksum is verified before the version. Otherwise a flipped bit could look like a newer version.
        if header_checksum(bytes) != u32_at(bytes, 12) {
            return Err(HeaderFault::Damaged("the segment header's checksum does not match its bytes"));
        }
        match u32_at(bytes, 8) {
            FORMAT_VERSION => {}
            version => return Err(HeaderFault::Newer(version)),
        }
        let mut id = [0; 16];
        id.copy_from_slice(&bytes[16..32]);
        Ok(Self { log_id: LogId(id), first: u64_at(bytes, 32), previous_bytes: u64_at(bytes, 40) })
    }
}

fn header_checksum(bytes: &[u8; SEGMENT_HEADER_BYTES]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[0..12]);
    hasher.update(&bytes[16..]);
    hasher.finalize()
}

/// The file name of the segment that begins at `first`.
pub(crate) fn file_name(first: u64) -> String {
    format!("{first:020}.seg")
}

/// Returns the first position from a segment's file name, or `None` if it is not exactly such a name.
pub(crate) fn position_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    let first = digits.parse().ok()?;
    (file_name(first) == name).then_some(first)
}

/// Creates or replaces a file so that a crash leaves either all of the new content or none of it. It writes and syncs
/// a temporary file, renames it, and syncs the folder. Returns the file, open for further writes. The failpoints are
/// hit after the first sync and after the rename.
pub(crate) fn write_whole(
    disk: &Disk,
    folder: &Path,
    name: &str,
    bytes: &[u8],
    failpoints: [&'static str; 2],
) -> Result<DiskFile, DiskError> {
    let mut file = disk.create(&folder.join(format!("{name}.tmp")))?;
    file.write_at(bytes, 0)?;
    file.sync()?;
    failpoint::hit(failpoints[0]);
    disk.rename(&mut file, &folder.join(name))?;
    failpoint::hit(failpoints[1]);
    disk.sync_folder(folder)?;
    Ok(file)
}

/// A location where a frame begins or ends: the position of the next event, and the offset in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    pub position: u64,
    pub offset: u64,
}

/// The in-memory state of one segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub first: u64,
    pub path: PathBuf,
    /// All bytes before this offset are synced. Only a rewrite changes them, by replacing the file.
    durable_bytes: AtomicU64,
    /// Incremented whenever the file at `path` is replaced or removed.
    generation: AtomicU64,
    index: Mutex<Vec<Location>>,
}

impl Segment {
    pub(crate) fn new(first: u64, path: PathBuf, durable_bytes: u64, index: Vec<Location>) -> Self {
        Self {
            first,
            path,
            durable_bytes: AtomicU64::new(durable_bytes),
            generation: AtomicU64::new(0),
            index: Mutex::new(index),
        }
    }

    pub(crate) fn durable_bytes(&self) -> u64 {
        self.durable_bytes.load(Ordering::Acquire)
    }

    pub(crate) fn set_durable_bytes(&self, bytes: u64) {
        self.durable_bytes.store(bytes, Ordering::Release);
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Makes every reader close the file that it has open, at its next read.
    pub(crate) fn bump_generation(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Adds some of these locations to the index. They must be in rising order. Locations before the last entry are
    /// skipped.
    pub(crate) fn add_to_index(&self, locations: impl Iterator<Item = Location>) {
        let mut index = event::lock(&self.index);
        locations.for_each(|location| add_location(&mut index, location));
    }

    /// Returns the last indexed location at or before `position`, or the first frame.
    pub(crate) fn location_before(&self, position: u64) -> Location {
        let index = event::lock(&self.index);
        let after = index.partition_point(|location| location.position <= position);
        match after.checked_sub(1) {
            Some(at) => index[at],
            None => Location { position: self.first, offset: SEGMENT_HEADER_BYTES as u64 },
        }
    }
}

/// Adds a location to a sparse index if it is far enough after the last entry.
pub(crate) fn add_location(index: &mut Vec<Location>, location: Location) {
    let last = index.last().map_or(0, |last| last.offset);
    if location.offset >= last + INDEX_STEP_BYTES {
        index.push(location);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_header_survives_a_round_trip(id: [u8; 16], first: u64, previous_bytes: u64) {
            let log_id = LogId(id);
            let header = SegmentHeader { log_id, first, previous_bytes };
            prop_assert_eq!(SegmentHeader::parse(&header.to_bytes()), Ok(header));
            prop_assert_eq!(position_of(&file_name(first)), Some(first));
        }

        #[test]
        fn only_exact_segment_names_are_parsed(name in "[+0-9]{0,21}(\\.seg)?") {
            prop_assert!(position_of(&name).is_none_or(|first| file_name(first) == name));
        }
    }

    #[test]
    fn the_index_is_sparse_and_finds_the_location_before_a_position() {
        let segment = Segment::new(10, PathBuf::new(), 0, Vec::new());
        let location = |number: u64| Location { position: 10 + number, offset: 48 + number * 1000 };
        segment.add_to_index((0..1000).map(location));
        for position in [10, 11, 75, 500, 1009] {
            let found = segment.location_before(position);
            assert_eq!(found, location(found.position - 10));
            assert!(found.position <= position && position - found.position <= 66);
        }
    }
}

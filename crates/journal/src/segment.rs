//! A segment: one file of the log, a header and then frames. This file knows its
//! name and header, and keeps what writer and readers share about it in memory.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::LogId;
use crate::disk::{Disk, DiskError, DiskFile};
use crate::failpoint;
use crate::frame::{u32_at, u64_at};

pub(crate) const SEGMENT_HEADER_BYTES: usize = 48;
pub(crate) const FORMAT_VERSION: u32 = 1;

/// How far apart the places are that a segment remembers for random access.
const INDEX_STEP_BYTES: u64 = 64 << 10;
const MAGIC: &[u8; 8] = b"MRJSEGMT";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub log_id: LogId,
    pub first: u64,
    /// The previous segment's length, so that one cut or grown shows; 0 before the first.
    pub previous_bytes: u64,
}

/// Why the start of a file is no segment header.
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
        bytes[16..32].copy_from_slice(self.log_id.as_bytes());
        bytes[32..40].copy_from_slice(&self.first.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.previous_bytes.to_le_bytes());
        let checksum = header_checksum(&bytes);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, HeaderFault> {
        let Some(bytes) = bytes.first_chunk::<SEGMENT_HEADER_BYTES>() else {
            return Err(HeaderFault::Damaged("the segment's header is cut short"));
        };
        if &bytes[0..8] != MAGIC {
            return Err(HeaderFault::Damaged("the file does not begin as a segment"));
        }
        // The checksum comes before the version, or a flipped bit would be taken for a
        // newer version.
        if header_checksum(bytes) != u32_at(bytes, 12) {
            return Err(HeaderFault::Damaged("the segment header's checksum does not match its bytes"));
        }
        match u32_at(bytes, 8) {
            FORMAT_VERSION => {}
            version => return Err(HeaderFault::Newer(version)),
        }
        let mut id = [0; 16];
        id.copy_from_slice(&bytes[16..32]);
        Ok(Self {
            log_id: LogId::from_bytes(id),
            first: u64_at(bytes, 32),
            previous_bytes: u64_at(bytes, 40),
        })
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

/// The position a file name stands for; nothing if it is not exactly such a name.
pub(crate) fn position_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    let first = digits.parse().ok()?;
    (file_name(first) == name).then_some(first)
}

/// Writes a whole file so that a crash leaves either nothing of it or all of it:
/// temporary, sync, rename, sync of the folder. The handle goes on to be written.
/// The failpoints are those after the first sync and after the rename.
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

/// A place where a frame begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub position: u64,
    pub offset: u64,
}

/// What is known in memory of one segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub first: u64,
    pub path: PathBuf,
    /// Bytes before this are synced and never change.
    durable_bytes: AtomicU64,
    /// Changes whenever the file behind the name is replaced or taken away.
    generation: AtomicU64,
    index: Mutex<Vec<Place>>,
}

impl Segment {
    pub(crate) fn new(first: u64, path: PathBuf, durable_bytes: u64, index: Vec<Place>) -> Self {
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

    /// Has every reader let go of the file it holds open.
    pub(crate) fn renew(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Remembers some of the places where frames begin. They come in rising order;
    /// those before what is known already are passed over.
    pub(crate) fn note(&self, places: impl Iterator<Item = Place>) {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        places.for_each(|place| note_place(&mut index, place));
    }

    /// The last known place at or before `position`.
    pub(crate) fn place_before(&self, position: u64) -> Place {
        let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let after = index.partition_point(|place| place.position <= position);
        match after.checked_sub(1) {
            Some(at) => index[at],
            None => Place { position: self.first, offset: SEGMENT_HEADER_BYTES as u64 },
        }
    }
}

/// Adds a place to a sparse index if it lies far enough behind the last one.
pub(crate) fn note_place(index: &mut Vec<Place>, place: Place) {
    let last = index.last().map_or(0, |last| last.offset);
    if place.offset >= last + INDEX_STEP_BYTES {
        index.push(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_header_reads_as_it_was_written(id: [u8; 16], first: u64, previous_bytes: u64) {
            let log_id = LogId::from_bytes(id);
            let header = SegmentHeader { log_id, first, previous_bytes };
            prop_assert_eq!(SegmentHeader::parse(&header.to_bytes()), Ok(header));
            prop_assert_eq!(position_of(&file_name(first)), Some(first));
        }

        #[test]
        fn only_exact_names_are_segments(name in "[+0-9]{0,21}(\\.seg)?") {
            prop_assert!(position_of(&name).is_none_or(|first| file_name(first) == name));
        }
    }

    #[test]
    fn the_index_is_sparse_and_finds_the_place_before() {
        let segment = Segment::new(10, PathBuf::new(), 0, Vec::new());
        let place = |number: u64| Place { position: 10 + number, offset: 48 + number * 1000 };
        segment.note((0..1000).map(place));
        for position in [10, 11, 75, 500, 1009] {
            let found = segment.place_before(position);
            assert_eq!(found, place(found.position - 10));
            assert!(found.position <= position && position - found.position <= 66);
        }
    }
}

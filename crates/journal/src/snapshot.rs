//! What a copy of a log that is being written has to hold, so that it opens as a log that was stopped
//! right there. The journal only says it; whoever copies reads the files.

use std::path::PathBuf;

use crate::LogId;
use crate::durable_mark::{MARK_FILE, Mark, file_bytes};
use crate::journal::Shared;
use crate::reader::{ReadError, Reader};
use crate::segment::{SEGMENT_HEADER_BYTES, file_name};

/// The log as it was durable at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub log_id: LogId,
    /// Events below this position are in it.
    pub end: u64,
    /// In the order of positions, at least one; all but the last are sealed.
    pub segments: Vec<SnapshotSegment>,
}

/// A file of which the first `bytes` belong to the copy. While it is copied, the log may remove it, or put
/// another in its place, if it is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotSegment {
    pub path: PathBuf,
    pub name: String,
    pub first: u64,
    pub bytes: u64,
}

impl Snapshot {
    /// The name of the file that tells an open how far the copy goes.
    pub const MARK_NAME: &str = MARK_FILE;

    pub(crate) fn of(shared: &Shared, reader: &mut Reader) -> Result<Self, ReadError> {
        loop {
            let (first, end, bytes) = Self::cut(shared, reader)?;
            let segments: Vec<SnapshotSegment> = shared
                .segments_to(first)
                .iter()
                .map(|segment| SnapshotSegment {
                    path: segment.path.clone(),
                    name: file_name(segment.first),
                    first: segment.first,
                    bytes: if segment.first == first { bytes } else { segment.durable_bytes() },
                })
                .collect();
            // It may have been removed since, being sealed and old; then the end lies further on.
            if segments.last().is_some_and(|last| last.first == first) {
                return Ok(Self { log_id: shared.log_id, end, segments });
            }
        }
    }

    /// The first position of the segment that the copy ends in, its end, and the bytes of that segment.
    fn cut(shared: &Shared, reader: &mut Reader) -> Result<(u64, u64, u64), ReadError> {
        let end = shared.end();
        if end > shared.begin() {
            // Where the frame of the last event ends, so does the copy: bytes behind it may be synced already,
            // and belong to events that nobody has heard a yes for.
            let (last, end, bytes) = reader.end_of_frame(end - 1)?;
            return Ok((last.first, end, bytes));
        }
        Ok((end, end, SEGMENT_HEADER_BYTES as u64))
    }

    pub fn begin(&self) -> u64 {
        self.segments[0].first
    }

    /// The content of the mark file of a copy that holds all from `begin` on, perhaps more than the log does
    /// by now. At open, a copy that lacks anything of it is damaged, not torn.
    pub fn mark(&self, begin: u64) -> Vec<u8> {
        let last = &self.segments[self.segments.len() - 1];
        let mark = Mark {
            log_id: self.log_id,
            sequence: 0,
            begin,
            end: self.end,
            segment_first: last.first,
            offset: last.bytes,
            clean_stop: true,
        };
        file_bytes(mark).to_vec()
    }
}

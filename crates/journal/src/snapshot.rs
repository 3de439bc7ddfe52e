//! The list of files and lengths that a copy of an open log has to contain. The copy then opens as a log that was
//! stopped cleanly at that point. The journal only makes the list; the caller copies the files.

use std::path::PathBuf;

use crate::LogId;
use crate::durable_mark::{MARK_FILE, Mark, file_bytes};
use crate::log_state::LogState;
use crate::reader::{ReadError, Reader};
use crate::segment::{SEGMENT_HEADER_BYTES, file_name};

/// The durable part of the log at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub log_id: LogId,
    /// The position after the last event.
    pub end: u64,
    /// Sorted by position. There is at least one, and all but the last are sealed.
    pub segments: Vec<SnapshotSegment>,
}

/// A file whose first `bytes` belong to the copy. If the segment is sealed, a trim or a rewrite may remove or
/// replace the file during the copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotSegment {
    pub path: PathBuf,
    pub name: String,
    pub first: u64,
    pub bytes: u64,
}

impl Snapshot {
    /// The name of the durable mark file, which records where the copy ends.
    pub const MARK_NAME: &str = MARK_FILE;

    pub(crate) fn of(shared: &LogState, reader: &mut Reader) -> Result<Self, ReadError> {
        loop {
            let (first, end, bytes) = Self::find_end(shared, reader)?;
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
            // The segment may have been sealed and trimmed in the meantime. Then the end has moved, so try again.
            if segments.last().is_some_and(|last| last.first == first) {
                return Ok(Self { log_id: shared.log_id, end, segments });
            }
        }
    }

    /// Returns the first position of the last segment of the copy, the end position, and the length of that segment.
    fn find_end(shared: &LogState, reader: &mut Reader) -> Result<(u64, u64, u64), ReadError> {
        let end = shared.end();
        if end > shared.begin() {
            // The copy ends with the frame of the last event. Later bytes may already be synced, but their events
            // are not acknowledged yet.
            let (last, end, bytes) = reader.end_of_frame(end - 1)?;
            return Ok((last.first, end, bytes));
        }
        Ok((end, end, SEGMENT_HEADER_BYTES as u64))
    }

    pub fn begin(&self) -> u64 {
        self.segments[0].first
    }

    /// Returns the content of the mark file for a copy that begins at `begin`. The log may have been trimmed beyond
    /// that since. Because of this mark, a copy that lacks some bytes is reported as damaged at open, not as torn.
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

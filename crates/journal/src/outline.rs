//! What a copy of a log that is being written has to hold, so that it opens as a log that was stopped
//! right there. The journal only says it; whoever copies reads the files.

use std::path::PathBuf;

use crate::LogId;
use crate::journal::Shared;
use crate::mark::{MARK_FILE, Mark, file_bytes};
use crate::reader::{ReadError, Reader};
use crate::segment::{SEGMENT_HEADER_BYTES, file_name};

/// The log as it was durable at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    pub log_id: LogId,
    /// Events below this position are in it.
    pub end: u64,
    /// In the order of positions, at least one; all but the last are sealed.
    pub segments: Vec<OutlinedSegment>,
}

/// A file of which the first `bytes` belong to the copy. While it is copied, the log may remove it, or put
/// another in its place, if it is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlinedSegment {
    pub path: PathBuf,
    pub name: String,
    pub first: u64,
    pub bytes: u64,
}

impl Outline {
    /// The name of the file that tells an open how far the copy goes.
    pub const MARK_NAME: &str = MARK_FILE;

    pub(crate) fn of(shared: &Shared, reader: &mut Reader) -> Result<Self, ReadError> {
        let end = shared.end();
        let (last, end, bytes) = match end > shared.begin() {
            // Where the frame of the last event ends, so does the copy: bytes behind it may be synced already,
            // and belong to events that nobody has heard a yes for.
            true => reader.end_of_frame(end - 1)?,
            false => {
                let last = shared.segment_of(end).expect("a log has a segment");
                (last, end, SEGMENT_HEADER_BYTES as u64)
            }
        };
        let segments = shared.segments_to(last.first);
        let outlined = segments.iter().map(|segment| OutlinedSegment {
            path: segment.path.clone(),
            name: file_name(segment.first),
            first: segment.first,
            bytes: if segment.first == last.first { bytes } else { segment.durable_bytes() },
        });
        Ok(Self { log_id: shared.log_id, end, segments: outlined.collect() })
    }

    pub fn begin(&self) -> u64 {
        self.segments[0].first
    }

    /// The content of the mark file: at open, a copy that lacks anything of this is damaged, not torn.
    pub fn mark(&self) -> Vec<u8> {
        let last = &self.segments[self.segments.len() - 1];
        let mark = Mark {
            log_id: self.log_id,
            sequence: 0,
            begin: self.begin(),
            end: self.end,
            segment_first: last.first,
            offset: last.bytes,
            clean_stop: true,
        };
        file_bytes(mark).to_vec()
    }
}

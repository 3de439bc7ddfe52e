//! Reads the file of a sealed segment frame by frame and checks each frame. Only a window of the file is in memory.

use std::path::PathBuf;

use crate::LogId;
use crate::disk::DiskFile;
use crate::frame::{self, FRAME_HEADER_BYTES, Fault, FrameHeader, Parsed};
use crate::rewrite_error::RewriteError;
use crate::segment::{Location, SEGMENT_HEADER_BYTES, Segment};

/// The size of one read. A larger frame is still read as a whole.
const WINDOW_BYTES: usize = 1 << 20;

pub(crate) struct Walk<'a> {
    file: &'a DiskFile,
    /// The path of the segment, for errors.
    path: PathBuf,
    id: LogId,
    at: Location,
    /// The file's length.
    limit: u64,
    window: Vec<u8>,
    /// The offset of the window in the file.
    start: u64,
}

/// An intact frame with the expected position.
pub(crate) struct Walked<'a> {
    pub offset: u64,
    /// Header and payload, byte for byte as in the file.
    pub bytes: &'a [u8],
    pub parsed: Parsed<'a>,
}

impl<'a> Walk<'a> {
    /// Walks `file`, which has the frames and the length of `segment`. Starts at the first frame.
    pub(crate) fn new(file: &'a DiskFile, segment: &Segment, id: LogId) -> Self {
        let at = Location { position: segment.first, offset: SEGMENT_HEADER_BYTES as u64 };
        let (path, limit) = (segment.path.clone(), segment.durable_bytes());
        Self { file, path, id, at, limit, window: Vec::new(), start: at.offset }
    }

    /// Returns the next frame, or `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Walked<'_>>, RewriteError> {
        let at = self.at;
        if at.offset == self.limit {
            return Ok(None);
        }
        self.fill_window(FRAME_HEADER_BYTES)?;
        let header = FrameHeader::parse(&self.window[self.index()..]).map_err(|fault| self.corrupt(fault))?;
        self.fill_window(FRAME_HEADER_BYTES + header.payload_bytes as usize)?;
        let rest = &self.window[(at.offset - self.start) as usize..];
        let parsed = frame::parse(rest, &self.id).map_err(|fault| self.corrupt(fault))?;
        if parsed.frame.position != at.position {
            return Err(self.corrupt(Fault::Header));
        }
        self.at = Location { position: parsed.frame.end(), offset: at.offset + parsed.bytes as u64 };
        Ok(Some(Walked { offset: at.offset, bytes: &rest[..parsed.bytes], parsed }))
    }

    /// The location after the last frame.
    pub(crate) fn at(&self) -> Location {
        self.at
    }

    /// Returns the error for a fault at the current location.
    pub(crate) fn corrupt(&self, why: impl ToString) -> RewriteError {
        RewriteError::Corrupt { file: self.path.clone(), offset: self.at.offset, why: why.to_string() }
    }

    fn index(&self) -> usize {
        (self.at.offset - self.start) as usize
    }

    /// Reads the file until the window contains the next `need` bytes.
    fn fill_window(&mut self, need: usize) -> Result<(), RewriteError> {
        if self.window.len() - self.index() >= need {
            return Ok(());
        }
        let left = self.limit - self.at.offset;
        if left < need as u64 {
            return Err(self.corrupt(Fault::Short { need }));
        }
        let bytes = left.min(WINDOW_BYTES.max(need) as u64) as usize;
        self.start = self.at.offset;
        self.window.resize(bytes, 0);
        // The memory for one huge frame is released afterwards.
        self.window.shrink_to(WINDOW_BYTES);
        Ok(self.file.read_at(&mut self.window, self.start)?)
    }
}

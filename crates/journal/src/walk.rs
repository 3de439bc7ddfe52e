//! Reads the file of a sealed segment frame by frame and checks each frame. Only a window of the file is in memory.

use crate::LogId;
use crate::disk::{DiskError, DiskFile};
use crate::frame::{self, FRAME_HEADER_BYTES, Fault, FrameHeader, Parsed};
use crate::segment::{Location, SEGMENT_HEADER_BYTES};

/// The size of one read. A larger frame is still read as a whole.
const WINDOW_BYTES: usize = 1 << 20;

pub(crate) struct Walk<'a> {
    file: &'a DiskFile,
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

/// Why the walk cannot continue.
pub(crate) enum WalkError {
    Corrupt { offset: u64, why: String },
    Disk(DiskError),
}

impl From<DiskError> for WalkError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

impl<'a> Walk<'a> {
    /// Starts at the first frame, which has position `first`, and ends at the end of a file of `limit` bytes.
    pub(crate) fn new(file: &'a DiskFile, id: LogId, first: u64, limit: u64) -> Self {
        let at = Location { position: first, offset: SEGMENT_HEADER_BYTES as u64 };
        Self { file, id, at, limit, window: Vec::new(), start: at.offset }
    }

    /// Returns the next frame, or `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Walked<'_>>, WalkError> {
        let at = self.at;
        if at.offset == self.limit {
            return Ok(None);
        }
        self.fill_window(FRAME_HEADER_BYTES)?;
        let header = FrameHeader::parse(&self.window[self.index()..]).map_err(|fault| corrupt(at, fault))?;
        self.fill_window(FRAME_HEADER_BYTES + header.payload_bytes as usize)?;
        let rest = &self.window[(at.offset - self.start) as usize..];
        let parsed = frame::parse(rest, &self.id).map_err(|fault| corrupt(at, fault))?;
        if parsed.frame.position != at.position {
            return Err(corrupt(at, Fault::Header));
        }
        self.at = Location { position: parsed.frame.end(), offset: at.offset + parsed.bytes as u64 };
        Ok(Some(Walked { offset: at.offset, bytes: &rest[..parsed.bytes], parsed }))
    }

    /// The location after the last frame.
    pub(crate) fn at(&self) -> Location {
        self.at
    }

    fn index(&self) -> usize {
        (self.at.offset - self.start) as usize
    }

    /// Reads the file until the window contains the next `need` bytes.
    fn fill_window(&mut self, need: usize) -> Result<(), WalkError> {
        if self.window.len() - self.index() >= need {
            return Ok(());
        }
        let left = self.limit - self.at.offset;
        if left < need as u64 {
            return Err(corrupt(self.at, Fault::Short { need }));
        }
        let bytes = left.min(WINDOW_BYTES.max(need) as u64) as usize;
        self.start = self.at.offset;
        self.window.resize(bytes, 0);
        // The memory for one huge frame is released afterwards.
        self.window.shrink_to(WINDOW_BYTES);
        Ok(self.file.read_at(&mut self.window, self.start)?)
    }
}

fn corrupt(at: Location, fault: Fault) -> WalkError {
    WalkError::Corrupt { offset: at.offset, why: fault.to_string() }
}

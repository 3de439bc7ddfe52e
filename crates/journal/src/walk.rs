//! Goes through a sealed segment's file frame by frame, checks each, and holds one window of it in memory.

use crate::LogId;
use crate::disk::{DiskError, DiskFile};
use crate::frame::{self, FRAME_HEADER_BYTES, Fault, FrameHeader, Parsed};
use crate::segment::{Place, SEGMENT_HEADER_BYTES};

/// How much is read at once; a larger frame is still read whole.
const WINDOW_BYTES: usize = 1 << 20;

pub(crate) struct Walk<'a> {
    file: &'a DiskFile,
    id: LogId,
    at: Place,
    /// The file's length.
    limit: u64,
    window: Vec<u8>,
    /// Where in the file the window begins.
    start: u64,
}

/// A frame found intact and where it is due.
pub(crate) struct Walked<'a> {
    pub offset: u64,
    /// Header and payload as they lie in the file.
    pub bytes: &'a [u8],
    pub parsed: Parsed<'a>,
}

/// Why it goes no further.
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
    /// From the first frame, at position `first`, to the end of a file of `limit` bytes.
    pub(crate) fn new(file: &'a DiskFile, id: LogId, first: u64, limit: u64) -> Self {
        let at = Place { position: first, offset: SEGMENT_HEADER_BYTES as u64 };
        Self { file, id, at, limit, window: Vec::new(), start: at.offset }
    }

    /// The next frame; nothing at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Walked<'_>>, WalkError> {
        let at = self.at;
        if at.offset == self.limit {
            return Ok(None);
        }
        self.hold(FRAME_HEADER_BYTES)?;
        let header = FrameHeader::parse(&self.window[self.index()..]).map_err(|fault| corrupt(at, fault))?;
        self.hold(FRAME_HEADER_BYTES + header.payload_bytes as usize)?;
        let rest = &self.window[(at.offset - self.start) as usize..];
        let parsed = frame::parse(rest, &self.id).map_err(|fault| corrupt(at, fault))?;
        if parsed.frame.position != at.position {
            return Err(corrupt(at, Fault::Header));
        }
        self.at = Place { position: parsed.frame.end(), offset: at.offset + parsed.bytes as u64 };
        Ok(Some(Walked { offset: at.offset, bytes: &rest[..parsed.bytes], parsed }))
    }

    /// Where the last frame ended.
    pub(crate) fn at(&self) -> Place {
        self.at
    }

    fn index(&self) -> usize {
        (self.at.offset - self.start) as usize
    }

    /// Has the next `need` bytes in the window.
    fn hold(&mut self, need: usize) -> Result<(), WalkError> {
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
        // One huge frame's room is not kept for the rest of the way.
        self.window.shrink_to(WINDOW_BYTES);
        Ok(self.file.read_at(&mut self.window, self.start)?)
    }
}

fn corrupt(at: Place, fault: Fault) -> WalkError {
    WalkError::Corrupt { offset: at.offset, why: fault.to_string() }
}

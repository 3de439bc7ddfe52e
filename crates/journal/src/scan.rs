//! Reads the bytes of a segment frame by frame. At damage, it searches for the next intact frame. The scan is a pure
//! function; `survey` decides what is damage and what is a torn tail.

use crate::LogId;
use crate::frame::{self, FRAME_HEADER_BYTES, Fault, FrameHeader, FrameKind};
use crate::segment::{Location, SEGMENT_HEADER_BYTES, add_location};

/// The search for an intact frame computes checksums over at most this many bytes. Otherwise, payloads that look like
/// frame headers could delay a start for hours.
const SEARCH_BYTES_MAX: usize = 1 << 30;

/// A sequence of intact frames without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub from: Location,
    pub to: Location,
}

/// Bytes that are not an intact frame, or a jump in the positions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gap {
    pub at: Location,
    pub why: String,
    /// The location of the next intact frame, if there is one.
    pub resumes: Option<Location>,
    /// True if the search for the next intact frame reached its limit.
    pub search_ended: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub runs: Vec<Run>,
    pub gaps: Vec<Gap>,
    pub index: Vec<Location>,
    /// The number of events in lost frames.
    pub lost_events: u64,
    /// Intact frames prove that all bytes before this offset were synced.
    pub synced_bytes: u64,
}

/// Scans the bytes of a segment, including its header. The first frame should have position `first`.
pub(crate) fn scan(bytes: &[u8], id: &LogId, first: u64) -> Scan {
    let mut scan = Scan::default();
    let mut at = Location { position: first, offset: SEGMENT_HEADER_BYTES as u64 };
    let mut from = at;
    while at.offset < bytes.len() as u64 {
        let fault = match frame::parse(&bytes[at.offset as usize..], id) {
            Ok(parsed) if parsed.frame.position == at.position => {
                scan.take(at, &parsed);
                at = Location { position: parsed.frame.end(), offset: at.offset + parsed.bytes as u64 };
                continue;
            }
            Ok(parsed) => {
                format!("a frame has position {} instead of {}", parsed.frame.position, at.position)
            }
            Err(fault) => fault.to_string(),
        };
        scan.close_run(from, at);
        let (resumes, search_ended) = match search(bytes, id, at) {
            Ok(resumes) => (resumes, false),
            Err(SearchEnded) => (None, true),
        };
        scan.gaps.push(Gap { at, why: fault, resumes, search_ended });
        let Some(resumes) = resumes else {
            return scan;
        };
        (at, from) = (resumes, resumes);
    }
    scan.close_run(from, at);
    scan
}

impl Scan {
    fn take(&mut self, at: Location, parsed: &frame::Parsed<'_>) {
        add_location(&mut self.index, at);
        let synced = at.offset.saturating_sub(parsed.unsynced.into());
        self.synced_bytes = self.synced_bytes.max(synced);
        if parsed.frame.kind == FrameKind::Lost {
            self.lost_events += u64::from(parsed.frame.count);
        }
    }

    fn close_run(&mut self, from: Location, to: Location) {
        if from != to {
            self.runs.push(Run { from, to });
        }
    }
}

struct SearchEnded;

/// Finds the next intact frame of this log whose position is not below the expected one.
fn search(bytes: &[u8], id: &LogId, from: Location) -> Result<Option<Location>, SearchEnded> {
    let mut budget = SEARCH_BYTES_MAX;
    let last = bytes.len().saturating_sub(FRAME_HEADER_BYTES);
    for offset in from.offset as usize..=last {
        let rest = &bytes[offset..];
        let Ok(header) = FrameHeader::parse(rest) else {
            continue;
        };
        if header.position < from.position {
            continue;
        }
        match frame::parse(rest, id) {
            Ok(parsed) => {
                return Ok(Some(Location { position: parsed.frame.position, offset: offset as u64 }));
            }
            Err(Fault::Checksum) => {
                budget = budget.checked_sub(header.payload_bytes as usize).ok_or(SearchEnded)?;
            }
            Err(_) => {}
        }
    }
    Ok(None)
}

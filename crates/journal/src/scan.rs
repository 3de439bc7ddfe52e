//! Goes through a segment's bytes frame by frame, and past damage by looking for the
//! next intact frame. Pure: what the findings mean is for `survey` to judge.

use crate::LogId;
use crate::frame::{self, FRAME_HEADER_BYTES, Fault, FrameHeader, FrameKind};
use crate::segment::{Place, SEGMENT_HEADER_BYTES, note_place};

/// Looking for an intact frame may compute checksums over so many bytes. Payloads made
/// to look like headers could otherwise hold up a start for hours.
const SEARCH_BYTES_MAX: usize = 1 << 30;

/// Intact frames without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub from: Place,
    pub to: Place,
}

/// Bytes that are no intact frame, or a jump in the positions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gap {
    pub at: Place,
    pub why: String,
    /// Where intact frames go on.
    pub resumes: Option<Place>,
    /// Whether the search for them was given up.
    pub search_ended: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub runs: Vec<Run>,
    pub gaps: Vec<Gap>,
    pub index: Vec<Place>,
    /// Events inside Lost frames.
    pub lost_events: u64,
    /// Intact frames testify that everything before this offset was synced.
    pub synced_bytes: u64,
}

/// Scans a segment, header included, whose first frame should have position `first`.
pub(crate) fn scan(bytes: &[u8], id: &LogId, first: u64) -> Scan {
    let mut scan = Scan::default();
    let mut at = Place { position: first, offset: SEGMENT_HEADER_BYTES as u64 };
    let mut from = at;
    while at.offset < bytes.len() as u64 {
        let fault = match frame::parse(&bytes[at.offset as usize..], id) {
            Ok(parsed) if parsed.frame.position == at.position => {
                scan.take(at, &parsed);
                at = Place { position: parsed.frame.end(), offset: at.offset + parsed.bytes as u64 };
                continue;
            }
            Ok(parsed) => format!("position {} follows where {} is due", parsed.frame.position, at.position),
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
    fn take(&mut self, at: Place, parsed: &frame::Parsed<'_>) {
        note_place(&mut self.index, at);
        let synced = at.offset.saturating_sub(parsed.unsynced.into());
        self.synced_bytes = self.synced_bytes.max(synced);
        if parsed.frame.kind == FrameKind::Lost {
            self.lost_events += u64::from(parsed.frame.count);
        }
    }

    fn close_run(&mut self, from: Place, to: Place) {
        if from != to {
            self.runs.push(Run { from, to });
        }
    }
}

struct SearchEnded;

/// The next place that holds an intact frame of this log with a position that can follow.
fn search(bytes: &[u8], id: &LogId, from: Place) -> Result<Option<Place>, SearchEnded> {
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
                return Ok(Some(Place { position: parsed.frame.position, offset: offset as u64 }));
            }
            Err(Fault::Checksum) => {
                budget = budget.checked_sub(header.payload_bytes as usize).ok_or(SearchEnded)?;
            }
            Err(_) => {}
        }
    }
    Ok(None)
}

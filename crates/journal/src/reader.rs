//! Reads the log by position. A read returns only synced frames, and verifies each of them.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::LogId;
use crate::disk::{DiskError, DiskFile};
use crate::frame::{self, Fault, Frame};
use crate::log_state::LogState;
use crate::segment::{Location, Segment};

/// A read from the file has at least this size, because a system call for less is not worth its cost.
const READ_BYTES_MIN: usize = 4 << 10;
/// A read from the file has at most this size, to save memory. A larger frame is still read as a whole.
const READ_BYTES_MAX: usize = 16 << 20;

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("position {position} is beyond the end of the log, {end}")]
    PastEnd { position: u64, end: u64 },
    #[error("position {position} is below the beginning of the log, {begin}")]
    BelowBegin { position: u64, begin: u64 },
    #[error("`{}` is corrupt at offset {offset}: {why}", file.display())]
    Corrupt { file: PathBuf, offset: u64, why: String },
    #[error(transparent)]
    Io(#[from] DiskError),
}

/// Reads frames by position. A read that continues where the last one ended needs no search. A reader keeps the file
/// of one segment open. If that file is rewritten or removed, the reader closes it at its next read.
pub struct Reader {
    shared: Arc<LogState>,
    open: Option<OpenSegment>,
    buffer: Vec<u8>,
}

struct OpenSegment {
    segment: Arc<Segment>,
    /// The generation of the segment when its file was opened.
    generation: u64,
    file: DiskFile,
    /// The location where the last read ended.
    next: Location,
}

/// Consecutive frames, borrowed from the buffer of their reader.
#[derive(Debug, Clone, Copy)]
pub struct Chunk<'a> {
    bytes: &'a [u8],
}

impl<'a> Chunk<'a> {
    pub fn frames(&self) -> impl Iterator<Item = Frame<'a>> + use<'a> {
        let mut rest = self.bytes;
        std::iter::from_fn(move || {
            let (frame, after) = frame::parse_checked(rest)?;
            rest = after;
            Some(frame)
        })
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl Reader {
    pub(crate) fn new(shared: Arc<LogState>) -> Self {
        Self { shared, open: None, buffer: Vec::new() }
    }

    /// Returns frames, starting with the one that contains position `from`. Returns more than this frame only if all
    /// together have at most `bytes_max` bytes. The chunk is empty if `from` is the end of the log.
    pub fn read(&mut self, from: u64, bytes_max: usize) -> Result<Chunk<'_>, ReadError> {
        self.open.take_if(|open| open.generation != open.segment.generation());
        let (position, end) = (from, self.shared.end());
        if position > end {
            return Err(ReadError::PastEnd { position, end });
        }
        self.check_begin(position)?;
        if position == end {
            return Ok(Chunk { bytes: &[] });
        }
        match self.seek(from).and_then(|start| self.gather(start, from, end, bytes_max)) {
            Ok(gathered) => Ok(Chunk { bytes: &self.buffer[gathered] }),
            Err(error) => {
                // If the segment was trimmed during the read, it is neither missing nor damaged.
                self.check_begin(position)?;
                Err(error)
            }
        }
    }

    fn check_begin(&self, position: u64) -> Result<(), ReadError> {
        let begin = self.shared.begin();
        if position < begin { Err(ReadError::BelowBegin { position, begin }) } else { Ok(()) }
    }

    /// Returns the segment that contains the event at `position`, and the position and the offset after its frame.
    pub(crate) fn end_of_frame(&mut self, position: u64) -> Result<(Arc<Segment>, u64, u64), ReadError> {
        self.read(position, 0)?;
        let open = self.open.as_ref().expect("a read of an event opened its segment");
        Ok((Arc::clone(&open.segment), open.next.position, open.next.offset))
    }

    /// Opens the segment that contains `from`, and returns the location where the search in it begins.
    fn seek(&mut self, from: u64) -> Result<Location, ReadError> {
        let Some(segment) = self.shared.segment_of(from) else {
            let (position, begin) = (from, self.shared.begin());
            return Err(ReadError::BelowBegin { position, begin });
        };
        let same = |open: &OpenSegment| Arc::ptr_eq(&open.segment, &segment);
        match &self.open {
            Some(open) if same(open) && open.next.position == from => Ok(open.next),
            Some(open) if same(open) => Ok(segment.location_before(from)),
            _ => {
                let next = segment.location_before(from);
                // The generation is read before the file is opened, so that a later replacement is noticed.
                let generation = segment.generation();
                let file = self.shared.disk.open(&segment.path)?;
                self.open = Some(OpenSegment { segment, generation, file, next });
                Ok(next)
            }
        }
    }

    /// Returns the range of the buffer that contains the frames of a read.
    fn gather(
        &mut self,
        mut at: Location,
        from: u64,
        end: u64,
        bytes_max: usize,
    ) -> Result<Range<usize>, ReadError> {
        let open = self.open.as_mut().expect("seek opened a segment");
        let limit = open.segment.durable_bytes();
        let window = bytes_max.clamp(READ_BYTES_MIN, READ_BYTES_MAX);
        let id = self.shared.log_id;
        let mut filled = Filled { start: at.offset, bytes: 0 };
        let mut gathered: Option<Range<usize>> = None;
        while at.position < end && at.offset < limit {
            let index = (at.offset - filled.start) as usize;
            let next = match next_frame(&self.buffer[index..filled.bytes], &id, at) {
                Ok(next) => next,
                // The frames before this one are returned. The next read reports the fault.
                Err(_) if gathered.is_some() => break,
                Err(Fault::Short { need }) if (limit - at.offset) as usize >= need => {
                    filled = Filled {
                        start: at.offset,
                        bytes: window.max(need).min((limit - at.offset) as usize),
                    };
                    if self.buffer.len() < filled.bytes {
                        self.buffer.resize(filled.bytes, 0);
                    }
                    let buffer = &mut self.buffer[..filled.bytes];
                    open.file.read_at(buffer, filled.start)?;
                    continue;
                }
                Err(fault) => {
                    return Err(ReadError::Corrupt {
                        file: open.segment.path.clone(),
                        offset: at.offset,
                        why: fault.to_string(),
                    });
                }
            };
            open.segment.add_to_index(std::iter::once(at));
            if next.position > from {
                let gathered = gathered.get_or_insert(index..index);
                let after = (next.offset - filled.start) as usize;
                if gathered.start < gathered.end && after - gathered.start > bytes_max {
                    break;
                }
                gathered.end = after;
            }
            at = next;
        }
        open.next = at;
        gathered.ok_or_else(|| ReadError::Corrupt {
            file: open.segment.path.clone(),
            offset: at.offset,
            why: format!("the segment ends before position {from}"),
        })
    }
}

/// The part of the file that is in the buffer.
struct Filled {
    start: u64,
    bytes: usize,
}

/// Returns the location after the frame at `at`.
fn next_frame(bytes: &[u8], id: &LogId, at: Location) -> Result<Location, Fault> {
    let parsed = frame::parse(bytes, id)?;
    if parsed.frame.position != at.position {
        return Err(Fault::Header);
    }
    Ok(Location { position: parsed.frame.end(), offset: at.offset + parsed.bytes as u64 })
}

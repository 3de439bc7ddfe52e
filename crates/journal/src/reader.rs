//! Reads the log by position. Shows only what is synced and checks every frame it shows.

use std::path::PathBuf;
use std::sync::Arc;

use crate::LogId;
use crate::disk::{DiskError, DiskFile};
use crate::frame::{self, Fault, Frame};
use crate::journal::Shared;
use crate::segment::{Place, Segment};

/// Smaller reads than this are not worth a call to the kernel.
const READ_BYTES_MIN: usize = 4 << 10;
/// Larger ones are not worth the memory; a larger frame is still read whole.
const READ_BYTES_MAX: usize = 16 << 20;

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("position {position} is past the end of the log, {end}")]
    PastEnd { position: u64, end: u64 },
    #[error("position {position} is below the beginning of the log, {begin}")]
    BelowBegin { position: u64, begin: u64 },
    #[error("`{}` is corrupt at offset {offset}: {why}", file.display())]
    Corrupt { file: PathBuf, offset: u64, why: String },
    #[error(transparent)]
    Io {
        #[from]
        source: DiskError,
    },
}

/// Reads frames by position. Reading on where the last read ended costs no search. It holds one segment's
/// file open; if that is rewritten or removed meanwhile, until the next read.
pub struct Reader {
    shared: Arc<Shared>,
    open: Option<OpenSegment>,
    buffer: Vec<u8>,
}

struct OpenSegment {
    segment: Arc<Segment>,
    /// The segment's when its file was opened.
    generation: u64,
    file: DiskFile,
    /// Where the last read ended.
    next: Place,
}

/// Consecutive frames, borrowed from their reader.
#[derive(Debug, Clone, Copy)]
pub struct Chunk<'a> {
    bytes: &'a [u8],
}

/// Which bytes of the reader's buffer a read brought.
struct Gathered {
    from: usize,
    to: usize,
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
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, open: None, buffer: Vec::new() }
    }

    /// The frames from the one that holds position `from` on: at least one if there is
    /// any, and no more than `bytes_max` beyond it. Empty if `from` is the log's end.
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
            Ok(gathered) => Ok(Chunk { bytes: &self.buffer[gathered.from..gathered.to] }),
            Err(error) => {
                // What was trimmed away while it was looked for is neither missing nor damaged.
                self.check_begin(position)?;
                Err(error)
            }
        }
    }

    fn check_begin(&self, position: u64) -> Result<(), ReadError> {
        let begin = self.shared.begin();
        match position < begin {
            true => Err(ReadError::BelowBegin { position, begin }),
            false => Ok(()),
        }
    }

    /// The segment that holds the event at `position`, the position after its frame, and where that ends.
    pub(crate) fn end_of_frame(&mut self, position: u64) -> Result<(Arc<Segment>, u64, u64), ReadError> {
        self.read(position, 0)?;
        let open = self.open.as_ref().expect("a read of an event opened its segment");
        Ok((Arc::clone(&open.segment), open.next.position, open.next.offset))
    }

    /// Opens the segment that holds `from`; the place to begin looking there.
    fn seek(&mut self, from: u64) -> Result<Place, ReadError> {
        let Some(segment) = self.shared.segment_of(from) else {
            let (position, begin) = (from, self.shared.begin());
            return Err(ReadError::BelowBegin { position, begin });
        };
        let same = |open: &OpenSegment| Arc::ptr_eq(&open.segment, &segment);
        match &self.open {
            Some(open) if same(open) && open.next.position == from => Ok(open.next),
            Some(open) if same(open) => Ok(segment.place_before(from)),
            _ => {
                let next = segment.place_before(from);
                // Before the file: whatever takes its place from now on will be noticed.
                let generation = segment.generation();
                let file = self.shared.disk.open(&segment.path)?;
                self.open = Some(OpenSegment { segment, generation, file, next });
                Ok(next)
            }
        }
    }

    fn gather(
        &mut self,
        mut at: Place,
        from: u64,
        end: u64,
        bytes_max: usize,
    ) -> Result<Gathered, ReadError> {
        let open = self.open.as_mut().expect("seek opened a segment");
        let limit = open.segment.durable_bytes();
        let window = bytes_max.clamp(READ_BYTES_MIN, READ_BYTES_MAX);
        let id = self.shared.log_id;
        let mut filled = Filled { start: at.offset, bytes: 0 };
        let mut gathered: Option<Gathered> = None;
        while at.position < end && at.offset < limit {
            let index = (at.offset - filled.start) as usize;
            let frame = match next_frame(&self.buffer[index..filled.bytes], &id, at) {
                Ok(frame) => frame,
                // What was gathered before it is good; the next read will say the rest.
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
            open.segment.note(std::iter::once(at));
            let next = Place { position: frame.end, offset: at.offset + frame.bytes as u64 };
            if next.position > from {
                let gathered = gathered.get_or_insert(Gathered { from: index, to: index });
                if gathered.to > gathered.from && index + frame.bytes - gathered.from > bytes_max {
                    break;
                }
                gathered.to = index + frame.bytes;
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

/// The part of the file that lies in the buffer.
struct Filled {
    start: u64,
    bytes: usize,
}

/// What stepping over a frame needs.
struct Step {
    end: u64,
    bytes: usize,
}

fn next_frame(bytes: &[u8], id: &LogId, at: Place) -> Result<Step, Fault> {
    let parsed = frame::parse(bytes, id)?;
    if parsed.frame.position != at.position {
        return Err(Fault::Header);
    }
    Ok(Step { end: parsed.frame.end(), bytes: parsed.bytes })
}

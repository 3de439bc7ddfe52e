//! Puts other payloads of the same length into sealed segments. Each segment is written anew under a
//! temporary name, checked, synced, and takes the old one's place: a crash leaves the one or the other.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::command::WriterError;
use crate::disk::{DiskError, DiskFile};
use crate::failpoint;
use crate::frame::{self, Frame, FrameKind};
use crate::journal::Shared;
use crate::segment::{SEGMENT_HEADER_BYTES, Segment};
use crate::walk::{Walk, WalkError, Walked};

/// How much is gathered for one write; a larger frame is still written.
const WRITE_BYTES: usize = 1 << 20;

/// What a rewrite did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// Frames that were given a payload.
    pub frames: u64,
    /// Segments written anew.
    pub segments: u64,
}

/// Why not everything was rewritten. What comes after the segment it happened in is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    #[error("the log is sealed up to position {sealed_end}, and cannot be rewritten up to {until}")]
    NotSealed { until: u64, sealed_end: u64 },
    #[error("the {bytes} bytes at position {position} cannot be replaced by {bytes_new}")]
    OtherLength { position: u64, bytes: usize, bytes_new: usize },
    #[error("`{}` is corrupt at offset {offset}: {why}", file.display())]
    Corrupt { file: PathBuf, offset: u64, why: String },
    #[error(transparent)]
    Writer {
        #[from]
        source: WriterError,
    },
    #[error(transparent)]
    Io {
        #[from]
        source: DiskError,
    },
}

pub(crate) type Change<'a> = dyn FnMut(&Frame<'_>) -> Option<Vec<u8>> + 'a;

pub(crate) fn rewrite(
    shared: &Shared,
    range: Range<u64>,
    change: &mut Change<'_>,
) -> Result<Rewritten, RewriteError> {
    let _upkeep = shared.upkeep();
    // Once it is closed, the folder may be somebody else's.
    if let Some(refusal) = shared.queue.refusal() {
        return Err(WriterError::from(refusal).into());
    }
    let mut rewritten = Rewritten::default();
    if range.is_empty() {
        return Ok(rewritten);
    }
    let (sealed, sealed_end) = shared.sealed_in(&range);
    if range.end > sealed_end {
        return Err(RewriteError::NotSealed { until: range.end, sealed_end });
    }
    for (segment, end) in sealed {
        let mut copy = SegmentCopy { shared, segment: &segment, end, target: None };
        let frames = match copy.make(&range, change) {
            Ok(frames) => frames,
            Err(error) => {
                copy.give_up();
                return Err(error);
            }
        };
        rewritten.frames += frames;
        rewritten.segments += u64::from(frames > 0);
    }
    Ok(rewritten)
}

/// One segment on its way to its new form.
struct SegmentCopy<'a> {
    shared: &'a Shared,
    segment: &'a Segment,
    /// The position after its last event.
    end: u64,
    /// Made once a frame changes.
    target: Option<Target>,
}

/// The temporary, and what is to be written to it next.
struct Target {
    file: DiskFile,
    written: u64,
    gathered: Vec<u8>,
}

impl SegmentCopy<'_> {
    /// Answers how many frames were given a payload; with none, nothing was touched.
    fn make(&mut self, range: &Range<u64>, change: &mut Change<'_>) -> Result<u64, RewriteError> {
        let source = self.shared.disk.open(&self.segment.path)?;
        let mut walk = self.walk(&source);
        let mut frames = 0;
        while let Some(walked) = walk.next().map_err(|error| self.fault(error))? {
            let frame = &walked.parsed.frame;
            let asked =
                frame.kind == FrameKind::Data && frame.position < range.end && range.start < frame.end();
            match asked.then(|| change(frame)).flatten() {
                Some(payload) => {
                    self.replace(&source, &walked, &payload)?;
                    frames += 1;
                }
                None => self.keep(&walked)?,
            }
        }
        self.check_end(&walk)?;
        match self.target.take() {
            Some(target) => self.put_in_place(target).map(|()| frames),
            None => Ok(0),
        }
    }

    fn walk<'f>(&self, file: &'f DiskFile) -> Walk<'f> {
        Walk::new(file, self.shared.log_id, self.segment.first, self.segment.durable_bytes())
    }

    /// A frame that stays is carried over byte for byte, if anything is.
    fn keep(&mut self, walked: &Walked<'_>) -> Result<(), DiskError> {
        match &mut self.target {
            Some(target) => target.push(walked.bytes),
            None => Ok(()),
        }
    }

    fn replace(
        &mut self,
        source: &DiskFile,
        walked: &Walked<'_>,
        payload: &[u8],
    ) -> Result<(), RewriteError> {
        let Frame { position, count, kind, payload: old } = walked.parsed.frame;
        if payload.len() != old.len() {
            return Err(RewriteError::OtherLength { position, bytes: old.len(), bytes_new: payload.len() });
        }
        if self.target.is_none() {
            let file = self.shared.disk.create(&temporary(&self.segment.path))?;
            let target = self.target.insert(Target { file, written: 0, gathered: Vec::new() });
            target.copy(source, walked.offset)?;
        }
        let target = self.target.as_mut().expect("it was just made");
        let frame = Frame { position, count, kind, payload };
        let checksum = frame::payload_checksum(payload);
        frame::write(&mut target.gathered, &self.shared.log_id, frame, walked.parsed.unsynced, checksum);
        Ok(target.push(&[])?)
    }

    fn put_in_place(&self, mut target: Target) -> Result<(), RewriteError> {
        target.flush()?;
        target.file.sync()?;
        failpoint::hit("journal.rewrite_created");
        // What was durable is not given up for something that does not read.
        let mut walk = self.walk(&target.file);
        while walk.next().map_err(|error| self.fault(error))?.is_some() {}
        self.check_end(&walk)?;
        let _names = self.shared.names();
        let renamed = self.shared.disk.rename(&mut target.file, &self.segment.path);
        self.segment.renew();
        renamed?;
        failpoint::hit("journal.rewrite_renamed");
        self.shared.disk.sync_folder(&self.shared.folder)?;
        failpoint::hit("journal.rewritten");
        Ok(())
    }

    fn check_end(&self, walk: &Walk<'_>) -> Result<(), RewriteError> {
        let at = walk.at();
        if at.position == self.end {
            return Ok(());
        }
        let why =
            format!("the segment ends at position {}, and the next begins at {}", at.position, self.end);
        Err(self.fault(WalkError::Corrupt { offset: at.offset, why }))
    }

    fn fault(&self, error: WalkError) -> RewriteError {
        match error {
            WalkError::Corrupt { offset, why } => {
                RewriteError::Corrupt { file: self.segment.path.clone(), offset, why }
            }
            WalkError::Disk(source) => RewriteError::Io { source },
        }
    }

    /// The temporary takes room that others may need; open would remove it too.
    fn give_up(&self) {
        let _ = self.shared.disk.remove(&temporary(&self.segment.path));
    }
}

impl Target {
    /// Everything before the first frame that changes.
    fn copy(&mut self, source: &DiskFile, bytes: u64) -> Result<(), DiskError> {
        debug_assert!(bytes >= SEGMENT_HEADER_BYTES as u64);
        let mut chunk = vec![0; bytes.min(WRITE_BYTES as u64) as usize];
        while self.written < bytes {
            let length = (bytes - self.written).min(chunk.len() as u64) as usize;
            source.read_at(&mut chunk[..length], self.written)?;
            self.file.write_at(&chunk[..length], self.written)?;
            self.written += length as u64;
        }
        Ok(())
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        self.file.write_at(&self.gathered, self.written)?;
        self.written += self.gathered.len() as u64;
        self.gathered.clear();
        self.gathered.shrink_to(WRITE_BYTES);
        Ok(())
    }
}

fn temporary(path: &Path) -> PathBuf {
    path.with_extension("seg.tmp")
}

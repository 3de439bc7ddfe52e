//! Replaces payloads in sealed segments by others of the same length. The whole segment is written to a temporary
//! file, synced, checked and renamed over the old one. A crash leaves either the old file or the new one.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::disk::{DiskError, DiskFile};
use crate::frame::{self, Frame, FrameKind};
use crate::log_state::LogState;
use crate::rewrite_error::RewriteError;
use crate::segment::{SEGMENT_HEADER_BYTES, Segment};
use crate::walk::{Walk, Walked};
use crate::writer_command::WriterError;

/// Bytes are buffered up to this size before a write. A larger frame is still written as a whole.
const WRITE_BYTES: usize = 1 << 20;

/// The result of a rewrite.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// The number of frames that got a new payload.
    pub frames: u64,
    /// The number of segments that were written again.
    pub segments: u64,
}

pub(crate) type Change<'a> = dyn FnMut(&Frame<'_>) -> Option<Vec<u8>> + 'a;

pub(crate) fn rewrite(
    shared: &LogState,
    range: Range<u64>,
    change: &mut Change<'_>,
) -> Result<Rewritten, RewriteError> {
    let _maintenance = shared.lock_maintenance();
    // After a close, another process may use the folder.
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
                copy.discard();
                return Err(error);
            }
        };
        rewritten.frames += frames;
        rewritten.segments += u64::from(frames > 0);
    }
    Ok(rewritten)
}

/// The rewrite of one segment.
struct SegmentCopy<'a> {
    shared: &'a LogState,
    segment: &'a Segment,
    /// The position after the last event of the segment.
    end: u64,
    /// Created when the first frame changes.
    target: Option<Target>,
}

/// The temporary file, and the bytes that are not written to it yet.
struct Target {
    file: DiskFile,
    written: u64,
    buffer: Vec<u8>,
}

impl SegmentCopy<'_> {
    /// Rewrites the segment, and returns the number of frames that got a new payload. If it is 0, no file was
    /// changed.
    fn make(&mut self, range: &Range<u64>, change: &mut Change<'_>) -> Result<u64, RewriteError> {
        let source = self.shared.disk.open(&self.segment.path)?;
        let mut walk = self.walk(&source);
        let mut frames = 0;
        while let Some(walked) = walk.next()? {
            let frame = &walked.parsed.frame;
            let in_range =
                frame.kind == FrameKind::Data && frame.position < range.end && range.start < frame.end();
            match in_range.then(|| change(frame)).flatten() {
                Some(payload) => {
                    self.replace(&source, &walked, &payload)?;
                    frames += 1;
                }
                None => self.keep(&walked)?,
            }
        }
        self.check_end(&walk)?;
        match self.target.take() {
            Some(target) => self.replace_file(target).map(|()| frames),
            None => Ok(0),
        }
    }

    fn walk<'f>(&self, file: &'f DiskFile) -> Walk<'f> {
        Walk::new(file, self.segment, self.shared.log_id)
    }

    /// Copies an unchanged frame byte for byte, if there is a target already.
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
            let target = self.target.insert(Target { file, written: 0, buffer: Vec::new() });
            target.copy(source, walked.offset)?;
        }
        let target = self.target.as_mut().expect("the target was just created");
        let frame = Frame { position, count, kind, payload };
        let checksum = frame::payload_checksum(payload);
        frame::write(&mut target.buffer, &self.shared.log_id, frame, walked.parsed.unsynced, checksum);
        Ok(target.push(&[])?)
    }

    fn replace_file(&self, mut target: Target) -> Result<(), RewriteError> {
        target.flush()?;
        target.file.sync()?;
        failpoint::hit("journal.rewrite_created");
        // The new file is read and checked before it replaces the durable old one.
        let mut walk = self.walk(&target.file);
        while walk.next()?.is_some() {}
        self.check_end(&walk)?;
        let _renames = self.shared.lock_renames();
        let renamed = self.shared.disk.rename(&mut target.file, &self.segment.path);
        self.segment.bump_generation();
        renamed?;
        failpoint::hit("journal.rewrite_renamed");
        self.shared.disk.sync_folder(&self.shared.folder)?;
        failpoint::hit("journal.rewritten");
        Ok(())
    }

    fn check_end(&self, walk: &Walk<'_>) -> Result<(), RewriteError> {
        let position = walk.at().position;
        if position == self.end {
            return Ok(());
        }
        let why = format!("the segment ends at position {position}, but the next begins at {}", self.end);
        Err(walk.corrupt(why))
    }

    /// Removes the temporary file, because it uses space that others may need. Open would also remove it.
    fn discard(&self) {
        let _ = self.shared.disk.remove(&temporary(&self.segment.path));
    }
}

impl Target {
    /// Copies the first `bytes` of the source: everything before the first frame that changes.
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
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        self.file.write_at(&self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(WRITE_BYTES);
        Ok(())
    }
}

fn temporary(path: &Path) -> PathBuf {
    path.with_extension("seg.tmp")
}

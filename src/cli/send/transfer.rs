//! The transfer of one file. It asks once which lines the server has, then sends the others, chunk by chunk. There is
//! only one request at a time, so the events have the same order in the log as in the file.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::lines::{Chunk, LineStart, Lines};
use super::progress::Progress;
use super::refusal_run::{REFUSALS_IN_A_ROW_MAX, RefusalRun};
use super::rejected::{Rejected, RejectedLine};
use super::resume::Gap;
use super::stream_choice::StreamChoice;
use super::upload::{Identity, KnownUpload, ResumeMode};
use super::uploader::{Receipt, Uploader};
use super::{SendError, unreadable};
use crate::cli::exit::Failure;

/// How many bytes before the next line are compared, to notice that the file was rewritten.
const ANCHOR_BYTES: usize = 64;

/// Shared by the transfers of all files.
pub struct Context {
    pub uploader: Uploader,
    pub stream: StreamChoice,
    pub progress: Progress,
    pub chunk_lines: u64,
    /// Go on after any number of refused lines.
    pub keep_going: bool,
}

/// Totals of a transfer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub events: u64,
    /// Lines that the server had before.
    pub already_sent: u64,
    pub rejected: u64,
}

pub struct Transfer {
    path: PathBuf,
    file: Arc<File>,
    lines: Lines,
    rejected: Rejected,
    /// The bytes before the next line, as they were sent.
    anchor: Vec<u8>,
    pub first_line: [u8; 32],
    pub known: KnownUpload,
    pub counts: Counts,
    /// How many lines an earlier run rejected.
    pub rejected_before: u64,
    /// The line that was rejected last, with the reason.
    pub last_rejected: Option<(u64, String)>,
    refusal_run: RefusalRun,
}

impl Transfer {
    /// Starts the transfer of an open file, and sends the lines between those that the server has. Returns `None` if
    /// the file has no first line yet; with `first_ended`, that line needs its line break.
    pub async fn begin(
        path: &Path,
        file: File,
        first_ended: bool,
        mode: impl FnOnce(&[u8; 32]) -> ResumeMode,
        context: &Context,
    ) -> Result<Option<Self>, SendError> {
        let failed = |error| unreadable(path, &error);
        let file = Arc::new(file);
        let (uploader, progress) = (&context.uploader, &context.progress);
        let stream = context.stream.of(path, &file, first_ended, uploader, progress).await?;
        let Some(stream) = stream else { return Ok(None) };
        let identity = Identity::of(path, stream, &file, first_ended, uploader).map_err(failed)?;
        let Some(identity) = identity else { return Ok(None) };
        let mode = mode(&identity.first_line);
        let known = identity.find(&file, mode, uploader, progress).await?;
        let mut transfer = Self {
            path: path.to_owned(),
            lines: Lines::new(&file, uploader.line_bytes_max()).map_err(failed)?,
            rejected: Rejected::new(path, &known.upload),
            anchor: Vec::new(),
            first_line: identity.first_line,
            counts: Counts { already_sent: known.resume.matching_lines, ..Counts::default() },
            rejected_before: 0,
            last_rejected: None,
            refusal_run: RefusalRun::default(),
            file,
            known,
        };
        transfer.catch_up(context).await?;
        Ok(Some(transfer))
    }

    /// Lists rejected lines that an interrupted sender did not list, and sends the gaps between the runs.
    async fn catch_up(&mut self, context: &Context) -> Result<(), SendError> {
        self.rejected_before = self.rejected.count().map_err(|error| self.unwritable(&error))?;
        self.counts.rejected = self.rejected_before;
        let changed = std::mem::take(&mut self.known.resume.changed);
        let reason = "was sent before it was complete; the text that was added later is not sent";
        let changed = changed.into_iter().map(|(line, text)| rejected_line(line, reason.to_owned(), &text));
        self.reject(changed.collect())?;
        if let Some((begin, lines)) = self.known.resume.last {
            self.check(begin, lines, context).await?;
        }
        let gaps = std::mem::take(&mut self.known.resume.gaps);
        for Gap { begin, until } in gaps {
            self.lines.go_to(begin);
            if until.is_some() {
                self.send_until(until, true, context).await?;
            }
        }
        context.progress.passed(self.lines.position().offset);
        self.note_anchor();
        Ok(())
    }

    /// Asks the server again which lines of the last run it refuses. An interrupted sender may not have listed them.
    async fn check(&mut self, begin: LineStart, lines: u64, context: &Context) -> Result<(), SendError> {
        self.lines.go_to(begin);
        let until = Some(begin.line + lines);
        while let Some(chunk) = self.chunk(lines, until, true)? {
            let receipt = context.uploader.send(&self.known.upload, &chunk, true, &context.progress).await?;
            self.reject_of(&chunk, &receipt, context)?;
        }
        Ok(())
    }

    /// Sends the rest of the file. A last line without a line break is sent only if the file is complete (`whole`).
    pub async fn advance(&mut self, whole: bool, context: &Context) -> Result<(), SendError> {
        let before = self.lines.position();
        self.send_until(None, whole, context).await?;
        if self.lines.position() != before {
            self.note_anchor();
        }
        Ok(())
    }

    async fn send_until(
        &mut self,
        until: Option<u64>,
        whole: bool,
        context: &Context,
    ) -> Result<(), SendError> {
        while !context.uploader.stop.asked() {
            let begun = self.lines.position().offset;
            let Some(chunk) = self.chunk(context.chunk_lines, until, whole)? else { break };
            let receipt = context.uploader.send(&self.known.upload, &chunk, false, &context.progress).await?;
            self.counts.events += receipt.accepted;
            let refused = self.reject_of(&chunk, &receipt, context)?;
            context.progress.passed(self.lines.position().offset - begun);
            if self.refusal_run.add(&chunk, &refused) && !context.keep_going {
                return Err(SendError::Command(self.too_many_refusals()));
            }
        }
        Ok(())
    }

    fn chunk(&mut self, lines_max: u64, until: Option<u64>, whole: bool) -> Result<Option<Chunk>, SendError> {
        self.lines.chunk(lines_max, until, whole).map_err(|error| unreadable(&self.path, &error))
    }

    /// Lists the refused lines of a chunk, and returns them in order.
    fn reject_of(
        &mut self,
        chunk: &Chunk,
        receipt: &Receipt,
        context: &Context,
    ) -> Result<Vec<RejectedLine>, SendError> {
        let bytes_max = context.uploader.line_bytes_max();
        let too_long = chunk.too_long.iter().map(|(line, beginning)| {
            let reason = format!("is longer than {bytes_max} bytes; only its beginning is listed");
            rejected_line(*line, reason, beginning)
        });
        let refused = receipt.refused().into_iter();
        let refused = refused.map(|(line, reason)| rejected_line(line, reason, chunk.line(line)));
        let mut lines: Vec<RejectedLine> = too_long.chain(refused).collect();
        lines.sort_by_key(|line| line.line);
        self.reject(lines.clone())?;
        Ok(lines)
    }

    fn too_many_refusals(&self) -> Failure {
        let (line, reason) = self.last_rejected.clone().unwrap_or_default();
        Failure::Refused(format!(
            "{}: stopped, because stream `{}` refused {REFUSALS_IN_A_ROW_MAX} lines in a row; the reason at line {line} \
             is: {reason}. All of them are in {}. Name another stream with `--stream`, or continue with `--keep-going`",
            self.path.display(),
            self.known.upload.stream,
            self.rejected.path().display()
        ))
    }

    fn reject(&mut self, lines: Vec<RejectedLine>) -> Result<(), SendError> {
        if lines.is_empty() {
            return Ok(());
        }
        self.last_rejected = lines.last().map(|last| (last.line, last.reason.clone()));
        let added = self.rejected.add(lines).and_then(|()| self.rejected.count());
        self.counts.rejected = added.map_err(|error| self.unwritable(&error))?;
        Ok(())
    }

    fn unwritable(&self, error: &io::Error) -> SendError {
        let path = self.rejected.path().display();
        SendError::File(Failure::Failed(format!("cannot write the rejected lines to {path}: {error}")))
    }

    /// Remembers the bytes before the next line. If they cannot be read, the file was truncated, and the anchor is
    /// empty.
    fn note_anchor(&mut self) {
        self.anchor = self.bytes_before_position().unwrap_or_default();
    }

    fn bytes_before_position(&self) -> io::Result<Vec<u8>> {
        let offset = self.lines.position().offset;
        let length = ANCHOR_BYTES.min(offset as usize);
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset - length as u64)?;
        Ok(bytes)
    }

    /// Returns true if the bytes before the next line have changed: the file was truncated or rewritten.
    pub fn is_rewritten(&self) -> bool {
        self.bytes_before_position().ok().is_none_or(|bytes| bytes != self.anchor)
    }

    /// Returns true if everything in the file was sent.
    pub fn is_at_end(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.len() == self.lines.position().offset)
    }

    /// Returns true if `path` still names this file.
    pub fn is_at(&self, path: &Path) -> bool {
        let (own, found) = (self.file.metadata(), path.metadata());
        matches!((own, found), (Ok(own), Ok(found)) if (own.dev(), own.ino()) == (found.dev(), found.ino()))
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    pub fn rejected_path(&self) -> &Path {
        self.rejected.path()
    }
}

fn rejected_line(line: u64, reason: String, text: &[u8]) -> RejectedLine {
    let text = String::from_utf8_lossy(text.trim_ascii_end()).into_owned();
    RejectedLine { line, reason, text }
}

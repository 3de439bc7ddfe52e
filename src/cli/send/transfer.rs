//! One file on its way: what the server has of it is found out once, then the rest goes, chunk by chunk,
//! one request at a time, so that the order within the file is the order of the log.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::lines::{Chunk, Lines, Place};
use super::progress::Progress;
use super::rejected::{Rejected, RejectedLine};
use super::resume::Gap;
use super::upload::{Identity, Known, ResumeMode};
use super::uploader::{Receipt, Uploader};
use super::{Trouble, unreadable};
use crate::cli::exit::Failure;

/// How much before the next line is looked at again, to see whether the file is still the same.
const ANCHOR_BYTES: usize = 64;

/// With what every file is sent.
pub struct Context {
    pub uploader: Uploader,
    pub progress: Progress,
    pub chunk_lines: u64,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub events: u64,
    /// Lines that the server had before.
    pub there: u64,
    pub rejected: u64,
}

pub struct Transfer {
    path: PathBuf,
    file: Arc<File>,
    lines: Lines,
    rejected: Rejected,
    anchor: Vec<u8>,
    pub first_line: [u8; 32],
    pub known: Known,
    pub counts: Counts,
}

impl Transfer {
    /// Finds out what is still to be sent of an open file. `None` while it has no first line.
    pub async fn begin(
        path: &Path,
        file: File,
        first_ended: bool,
        wish: impl FnOnce(&[u8; 32]) -> ResumeMode,
        means: &Context,
    ) -> Result<Option<Self>, Trouble> {
        let failed = |error| unreadable(path, &error);
        let file = Arc::new(file);
        let identity = Identity::of(path, &file, first_ended, &means.uploader).map_err(failed)?;
        let Some(identity) = identity else { return Ok(None) };
        let wish = wish(&identity.first_line);
        let known = identity.find(&file, wish, &means.uploader, &means.progress).await?;
        let mut transfer = Self {
            path: path.to_owned(),
            lines: Lines::new(&file, means.uploader.line_bytes_max()).map_err(failed)?,
            rejected: Rejected::new(path, &known.upload),
            anchor: Vec::new(),
            first_line: identity.first_line,
            counts: Counts { there: known.fit.fitting_lines, ..Counts::default() },
            file,
            known,
        };
        transfer.catch_up(means).await?;
        Ok(Some(transfer))
    }

    /// Makes up for what a predecessor had no time to write down, and fills the gaps between the runs.
    async fn catch_up(&mut self, means: &Context) -> Result<(), Trouble> {
        self.counts.rejected = self.rejected.count().map_err(|error| self.unwritable(&error))?;
        let changed = std::mem::take(&mut self.known.fit.changed);
        let reason = "was sent before it was complete; what was added to the line since is not sent";
        let changed = changed.into_iter().map(|(line, text)| rejected_line(line, reason.to_owned(), &text));
        self.reject(changed.collect())?;
        if let Some((begin, lines)) = self.known.fit.last {
            self.check(begin, lines, means).await?;
        }
        let gaps = std::mem::take(&mut self.known.fit.gaps);
        for Gap { begin, until } in gaps {
            self.lines.go_to(begin);
            if until.is_some() {
                self.send_until(until, true, means).await?;
            }
        }
        means.progress.passed(self.lines.place().offset);
        self.note_anchor();
        Ok(())
    }

    /// The last known run was acknowledged; whether its refused lines were written down is not known.
    async fn check(&mut self, begin: Place, lines: u64, means: &Context) -> Result<(), Trouble> {
        self.lines.go_to(begin);
        let until = Some(begin.line + lines);
        while let Some(chunk) = self.chunk(lines, until, true)? {
            let receipt = match chunk.is_blank() {
                true => None,
                false => Some(means.uploader.check(&self.known.upload, &chunk, &means.progress).await?),
            };
            self.reject_of(&chunk, receipt.as_ref(), means)?;
        }
        Ok(())
    }

    /// Sends what is there; a last line without a line break only if it is to be the `whole`.
    pub async fn advance(&mut self, whole: bool, means: &Context) -> Result<(), Trouble> {
        let before = self.lines.place();
        self.send_until(None, whole, means).await?;
        if self.lines.place() != before {
            self.note_anchor();
        }
        Ok(())
    }

    async fn send_until(&mut self, until: Option<u64>, whole: bool, means: &Context) -> Result<(), Trouble> {
        while !means.uploader.stop.asked() {
            let begun = self.lines.place().offset;
            let Some(chunk) = self.chunk(means.chunk_lines, until, whole)? else { break };
            let receipt = match chunk.is_blank() {
                true => None,
                false => Some(means.uploader.send(&self.known.upload, &chunk, &means.progress).await?),
            };
            self.counts.events += receipt.as_ref().map_or(0, |receipt| receipt.accepted);
            self.reject_of(&chunk, receipt.as_ref(), means)?;
            means.progress.passed(self.lines.place().offset - begun);
        }
        Ok(())
    }

    fn chunk(&mut self, lines_max: u64, until: Option<u64>, whole: bool) -> Result<Option<Chunk>, Trouble> {
        self.lines.chunk(lines_max, until, whole).map_err(|error| unreadable(&self.path, &error))
    }

    fn reject_of(
        &mut self,
        chunk: &Chunk,
        receipt: Option<&Receipt>,
        means: &Context,
    ) -> Result<(), Trouble> {
        let bytes_max = means.uploader.line_bytes_max();
        let too_long = chunk.too_long.iter().map(|(line, beginning)| {
            let reason = format!("is longer than {bytes_max} bytes; this is its beginning");
            rejected_line(*line, reason, beginning)
        });
        let refused = receipt.map(Receipt::refused).unwrap_or_default().into_iter();
        let refused = refused.map(|(line, reason)| rejected_line(line, reason, chunk.line(line)));
        let mut lines: Vec<RejectedLine> = too_long.chain(refused).collect();
        lines.sort_by_key(|line| line.line);
        self.reject(lines)
    }

    fn reject(&mut self, lines: Vec<RejectedLine>) -> Result<(), Trouble> {
        if lines.is_empty() {
            return Ok(());
        }
        let added = self.rejected.add(lines).and_then(|()| self.rejected.count());
        self.counts.rejected = added.map_err(|error| self.unwritable(&error))?;
        Ok(())
    }

    fn unwritable(&self, error: &io::Error) -> Trouble {
        let path = self.rejected.path().display();
        Trouble::File(Failure::Failed(format!("{path}, where refused lines belong: {error}")))
    }

    /// Where nothing can be read, the file was cut: no anchor holds there.
    fn note_anchor(&mut self) {
        self.anchor = self.before_place().unwrap_or_default();
    }

    fn before_place(&self) -> io::Result<Vec<u8>> {
        let offset = self.lines.place().offset;
        let length = ANCHOR_BYTES.min(offset as usize);
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset - length as u64)?;
        Ok(bytes)
    }

    /// Whether something else stands now where lines were sent from: the file was cut and written anew.
    pub fn is_rewritten(&self) -> bool {
        self.before_place().ok().is_none_or(|bytes| bytes != self.anchor)
    }

    /// Whether all that the file holds was sent.
    pub fn is_at_end(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.len() == self.lines.place().offset)
    }

    pub fn is_at(&self, path: &Path) -> bool {
        let (own, there) = (self.file.metadata(), path.metadata());
        matches!((own, there), (Ok(own), Ok(there)) if (own.dev(), own.ino()) == (there.dev(), there.ino()))
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

//! The name of a file's upload, and the lines that the server has of it.
//!
//! The name is a hash of the path, the first line and a generation. Other content at the same path usually has
//! another first line. If it does not, its lines do not match the known runs, and it gets the next generation.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::lines::{Lines, ReadLine};
use super::progress::Progress;
use super::resume::{Resume, Run};
use super::uploader::{UploadName, Uploader};
use super::{SendError, unreadable};
use crate::cli::exit::Failure;
use crate::cli::output::counted;

/// The properties that identify a file.
pub struct Identity<'a> {
    pub path: &'a Path,
    stream: String,
    /// The hash of the first line.
    pub first_line: [u8; 32],
    /// True if the lines are an export. The same lines, sent as plain events, are another upload.
    exported: bool,
}

/// The upload of a file, and the lines that were sent under its name before.
pub struct KnownUpload {
    pub generation: u64,
    pub upload: UploadName,
    pub resume: Resume,
}

/// Selects the generations that a file may continue.
#[derive(Clone, Copy, Default)]
pub struct ResumeMode {
    /// Continue no known generation: all lines are sent again.
    pub again: bool,
    /// Lower generations belong to content that is gone.
    pub from_generation: u64,
}

impl<'a> Identity<'a> {
    /// Reads the first line. Returns `None` if there is none yet; with `ended`, the line needs its line break.
    pub fn of(
        path: &'a Path,
        stream: String,
        file: &Arc<File>,
        ended: bool,
        uploader: &Uploader,
    ) -> std::io::Result<Option<Self>> {
        let (mut line, exported) = (Vec::new(), uploader.exported.is_some());
        match Lines::new(file, uploader.line_bytes_max())?.next(&mut line)? {
            ReadLine::Line { ended: is, .. } if is || !ended => {
                let first_line = Sha256::digest(line.trim_ascii()).into();
                Ok(Some(Self { path, stream, first_line, exported }))
            }
            _ => Ok(None),
        }
    }

    /// Returns the name of the upload of this generation.
    fn upload(&self, generation: u64) -> UploadName {
        let path = self.path.as_os_str().as_encoded_bytes();
        let mut digest = Sha256::new();
        let purpose: &[u8] = if self.exported { b"millrace import 1\0" } else { b"millrace send 1\0" };
        digest.update(purpose);
        digest.update((path.len() as u64).to_be_bytes());
        digest.update(path);
        digest.update(self.first_line);
        digest.update(generation.to_be_bytes());
        UploadName { stream: self.stream.clone(), name: event::hex(&digest.finalize()) }
    }

    /// Finds the latest generation whose runs match this file. If there is none, returns the first generation
    /// without runs.
    pub async fn find(
        &self,
        file: &Arc<File>,
        mode: ResumeMode,
        uploader: &Uploader,
        progress: &Progress,
    ) -> Result<KnownUpload, SendError> {
        let mut next = mode.from_generation;
        while !uploader.runs(&self.upload(next), 0, progress).await?.0.is_empty() {
            next += 1;
        }
        let mut changed = None;
        let known = if mode.again { next..next } else { mode.from_generation..next };
        for generation in known.rev() {
            let upload = self.upload(generation);
            let resume = self.compare(file, &upload, uploader, progress).await?;
            match resume.first_mismatch {
                None => return Ok(KnownUpload { generation, upload, resume }),
                Some(line) if resume.matching_lines > 1 => changed = changed.or(Some((line, resume))),
                Some(_) => {}
            }
        }
        if let Some((line, resume)) = changed {
            return Err(SendError::File(Failure::Failed(format!(
                "{} was changed after it was sent ({} changed from line {line} on, {} unchanged); nothing was sent \
                 now. Put single lines into another file, or send all lines again with `--again`",
                self.path.display(),
                counted(resume.mismatched_lines, "line"),
                counted(resume.matching_lines, "line")
            ))));
        }
        if next > mode.from_generation && !mode.again {
            progress.note(&format!(
                "{}: other content was sent from this path before; all lines are sent as new events",
                self.path.display()
            ));
        }
        let mut resume = Resume::default();
        let begin = Lines::new(file, uploader.line_bytes_max())
            .map_err(|error| unreadable(self.path, &error))?
            .position();
        resume.end(begin);
        Ok(KnownUpload { generation: next, upload: self.upload(next), resume })
    }

    /// Compares all runs of an upload with the file, in one pass over both.
    async fn compare(
        &self,
        file: &Arc<File>,
        upload: &UploadName,
        uploader: &Uploader,
        progress: &Progress,
    ) -> Result<Resume, SendError> {
        let mut lines =
            Lines::new(file, uploader.line_bytes_max()).map_err(|error| unreadable(self.path, &error))?;
        let mut runs = Runs { upload, page: Vec::new().into_iter(), from_line: Some(0) };
        let (mut resume, mut line) = (Resume::default(), Vec::new());
        let mut next = runs.next(uploader, progress).await?;
        loop {
            let position = lines.position();
            while let Some(run) = next.filter(|run| run.first <= position.line) {
                if run.first == position.line && run.lines > 0 {
                    resume.begin(run, position);
                } else {
                    resume.mismatch(run);
                }
                next = runs.next(uploader, progress).await?;
            }
            if next.is_none() && !resume.covers_next() {
                break;
            }
            line.clear();
            let read = lines.next(&mut line).map_err(|error| unreadable(self.path, &error))?;
            if read == ReadLine::End {
                break;
            }
            resume.reach(position);
            resume.line(position.line, &line);
        }
        while let Some(run) = next {
            resume.mismatch(run);
            next = runs.next(uploader, progress).await?;
        }
        resume.end(lines.position());
        Ok(resume)
    }
}

/// The runs of an upload, read page by page.
struct Runs<'a> {
    upload: &'a UploadName,
    page: std::vec::IntoIter<Run>,
    from_line: Option<u64>,
}

impl Runs<'_> {
    async fn next(&mut self, uploader: &Uploader, progress: &Progress) -> Result<Option<Run>, Failure> {
        if let (true, Some(from_line)) = (self.page.as_slice().is_empty(), self.from_line) {
            let (runs, more) = uploader.runs(self.upload, from_line, progress).await?;
            self.from_line = runs.last().filter(|_| more).map(|run| run.first + 1);
            self.page = runs.into_iter();
        }
        Ok(self.page.next())
    }
}

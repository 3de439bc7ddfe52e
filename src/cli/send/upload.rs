//! What a file is called at the server, and what the server has of it. A name holds the path, the first
//! line and a generation: other content that comes to a path begins otherwise, or, if it does not, does
//! not fit the runs that are known, and is of the next generation.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::lines::{Lines, Met};
use super::progress::Progress;
use super::resume::{Resume, Run};
use super::uploader::Uploader;
use super::{Trouble, unreadable};
use crate::cli::exit::Failure;

/// A file as it is known by.
pub struct Identity<'a> {
    pub path: &'a Path,
    /// The hash of the first line.
    pub first_line: [u8; 32],
    /// Whether the lines are those of an export; the same lines sent as plain events are another source.
    exported: bool,
}

/// The name to send under, and what was sent under it before.
pub struct Known {
    pub generation: u64,
    pub upload: String,
    pub fit: Resume,
}

/// Which generations are meant.
#[derive(Clone, Copy, Default)]
pub struct ResumeMode {
    /// None that is known: everything is sent, once more.
    pub again: bool,
    /// Generations below are content that is known to be gone.
    pub from_generation: u64,
}

impl<'a> Identity<'a> {
    /// `None` while there is no first line, or, if it has to be `ended`, no whole one.
    pub fn of(
        path: &'a Path,
        file: &Arc<File>,
        ended: bool,
        uploader: &Uploader,
    ) -> std::io::Result<Option<Self>> {
        let (mut line, exported) = (Vec::new(), uploader.exported.is_some());
        match Lines::new(file, uploader.line_bytes_max())?.next(&mut line)? {
            Met::Line { ended: is, .. } if is || !ended => {
                let first_line = Sha256::digest(line.trim_ascii()).into();
                Ok(Some(Self { path, first_line, exported }))
            }
            _ => Ok(None),
        }
    }

    fn upload(&self, generation: u64) -> String {
        let path = self.path.as_os_str().as_encoded_bytes();
        let mut digest = Sha256::new();
        let purpose: &[u8] = if self.exported { b"millrace import 1\0" } else { b"millrace send 1\0" };
        digest.update(purpose);
        digest.update((path.len() as u64).to_be_bytes());
        digest.update(path);
        digest.update(self.first_line);
        digest.update(generation.to_be_bytes());
        event::hex(&digest.finalize())
    }

    /// Finds the latest generation whose runs are lines of this file; failing that, the first that has
    /// no runs.
    pub async fn find(
        &self,
        file: &Arc<File>,
        wish: ResumeMode,
        uploader: &Uploader,
        progress: &Progress,
    ) -> Result<Known, Trouble> {
        let mut next = wish.from_generation;
        while !uploader.runs(&self.upload(next), 0, progress).await?.0.is_empty() {
            next += 1;
        }
        let mut changed = None;
        let known = if wish.again { next..next } else { wish.from_generation..next };
        for generation in known.rev() {
            let upload = self.upload(generation);
            let fit = self.fit(file, &upload, uploader, progress).await?;
            match fit.misfit_at {
                None => return Ok(Known { generation, upload, fit }),
                Some(line) if fit.fitting_lines > 1 => changed = changed.or(Some((line, fit))),
                Some(_) => {}
            }
        }
        if let Some((line, fit)) = changed {
            return Err(Trouble::File(Failure::Failed(format!(
                "{} was changed after it was sent: {} lines are as they were, {} from line {line} on are not; nothing more of it is sent. `--again` sends all of it once more; to send single lines, put them into another file",
                self.path.display(),
                fit.fitting_lines,
                fit.misfitting_lines
            ))));
        }
        if next > wish.from_generation && !wish.again {
            progress.note(&format!(
                "{}: other content was sent from this path before; what is there now is new",
                self.path.display()
            ));
        }
        let mut fit = Resume::default();
        let begin = Lines::new(file, uploader.line_bytes_max())
            .map_err(|error| unreadable(self.path, &error))?
            .place();
        fit.end(begin);
        Ok(Known { generation: next, upload: self.upload(next), fit })
    }

    /// Compares every run of a source with the file, in one pass over both.
    async fn fit(
        &self,
        file: &Arc<File>,
        upload: &str,
        uploader: &Uploader,
        progress: &Progress,
    ) -> Result<Resume, Trouble> {
        let mut lines =
            Lines::new(file, uploader.line_bytes_max()).map_err(|error| unreadable(self.path, &error))?;
        let mut runs = Runs { upload, page: Vec::new().into_iter(), from_line: Some(0) };
        let (mut fit, mut line) = (Resume::default(), Vec::new());
        let mut next = runs.next(uploader, progress).await?;
        loop {
            let place = lines.place();
            while let Some(run) = next.filter(|run| run.first <= place.line) {
                match run.first == place.line && run.lines > 0 {
                    true => fit.begin(run, place),
                    false => fit.misfit(run),
                }
                next = runs.next(uploader, progress).await?;
            }
            if next.is_none() && !fit.covers_next() {
                break;
            }
            line.clear();
            let met = lines.next(&mut line).map_err(|error| unreadable(self.path, &error))?;
            if met == Met::End {
                break;
            }
            fit.reach(place);
            fit.line(place.line, &line);
        }
        while let Some(run) = next {
            fit.misfit(run);
            next = runs.next(uploader, progress).await?;
        }
        fit.end(lines.place());
        Ok(fit)
    }
}

/// The runs of a source, a page at a time.
struct Runs<'a> {
    upload: &'a str,
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

//! The log's files as a backup reads them, while events come in and old files are removed. Each is given
//! another name of ours first, so that it stays for as long as it is read; open at the same time, the files
//! of a large log would be more than a process may have. The names end in `.tmp`: a start after a crash
//! removes them with the journal's other temporary files.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use event::LogId;
use event::limits::LOG_COPY_TRIES_MAX;
use journal::{Journal, ReadError, Snapshot};

#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("{0}")]
    Damaged(String),
    #[error("`{path}` cannot be kept for a backup: {source}", path = path.display())]
    Unkept { path: PathBuf, source: io::Error },
    /// What it held of a person was blanked: a snapshot that was taken meanwhile may not know of it.
    #[error("events are being erased from the log just now")]
    Rewritten,
}

/// The log as it was durable at one moment.
pub struct LogCopy {
    pub id: LogId,
    pub begin: u64,
    pub end: u64,
    pub segments: Vec<KeptSegment>,
    /// The name and content of the file that lets a log end right there.
    pub mark: (&'static str, Vec<u8>),
}

/// A file that stays until this is dropped.
pub struct KeptSegment {
    pub name: String,
    pub first: u64,
    /// So many from its beginning belong to the copy.
    pub bytes: u64,
    pub path: PathBuf,
}

impl KeptSegment {
    /// Which file it is, whatever its name.
    fn file(&self) -> Result<(u64, u64), CopyError> {
        let unkept = |source| CopyError::Unkept { path: self.path.clone(), source };
        self.path.metadata().map(|file| (file.dev(), file.ino())).map_err(unkept)
    }
}

impl Drop for KeptSegment {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(file = %self.path.display(), %error, "a backup's file could not be removed; the next start does it");
        }
    }
}

/// What the log holds now stays readable until this is dropped.
pub struct Held {
    journal: Journal,
    segments: Vec<KeptSegment>,
}

impl Held {
    pub fn new(journal: &Journal) -> Result<Self, CopyError> {
        let (_, segments) = keep(journal, "held")?;
        Ok(Self { journal: journal.clone(), segments })
    }

    /// The log up to where it is durable now, from where it began when it was held; unless anything of it
    /// was written anew since.
    pub fn up_to_now(self) -> Result<LogCopy, CopyError> {
        let (snapshot, now) = keep(&self.journal, "now")?;
        for held in &self.segments {
            if let Some(now) = now.iter().find(|segment| segment.first == held.first)
                && now.file()? != held.file()?
            {
                return Err(CopyError::Rewritten);
            }
        }
        let removed = self.segments.into_iter().filter(|segment| segment.first < snapshot.begin());
        let segments: Vec<KeptSegment> = removed.chain(now).collect();
        let begin = segments.first().map_or(snapshot.begin(), |segment| segment.first);
        Ok(LogCopy {
            id: LogId(*snapshot.log_id.as_bytes()),
            begin,
            end: snapshot.end,
            mark: (Snapshot::MARK_NAME, snapshot.mark(begin)),
            segments,
        })
    }
}

/// Links every file of the log as it is now; `round` keeps the names of two rounds apart.
fn keep(journal: &Journal, round: &str) -> Result<(Snapshot, Vec<KeptSegment>), CopyError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let snapshot = match journal.snapshot() {
            // Removed while it was looked for.
            Err(ReadError::BelowBegin { .. }) if tries < LOG_COPY_TRIES_MAX => continue,
            snapshot => snapshot.map_err(|error| CopyError::Damaged(error.to_string()))?,
        };
        match link(&snapshot, round) {
            Err(CopyError::Unkept { source, .. })
                if source.kind() == io::ErrorKind::NotFound && tries < LOG_COPY_TRIES_MAX => {}
            kept => return kept.map(|kept| (snapshot, kept)),
        }
    }
}

fn link(snapshot: &Snapshot, round: &str) -> Result<Vec<KeptSegment>, CopyError> {
    let mut kept = Vec::with_capacity(snapshot.segments.len());
    for segment in &snapshot.segments {
        let path = segment.path.with_extension(format!("seg.{round}.tmp"));
        let mut linked = std::fs::hard_link(&segment.path, &path);
        if linked.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists) {
            // Left by a backup that could not remove it.
            linked = std::fs::remove_file(&path).and_then(|()| std::fs::hard_link(&segment.path, &path));
        }
        linked.map_err(|source| CopyError::Unkept { path: segment.path.clone(), source })?;
        let (name, first, bytes) = (segment.name.clone(), segment.first, segment.bytes);
        kept.push(KeptSegment { name, first, bytes, path });
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::path::Path;
    use std::sync::mpsc;

    use journal::{Disk, Options};

    use super::*;

    fn open(folder: &Path) -> Journal {
        let options = Options { segment_bytes_max: 300, ..Options::default() };
        Journal::open(Disk::real(), folder, options).expect("opens").journal
    }

    fn append(journal: &Journal, events: usize) {
        for _ in 0..events {
            let (sender, receiver) = mpsc::channel();
            let done = move |outcome| drop(sender.send(outcome));
            journal.append(b"some event", NonZeroU32::MIN, Box::new(done));
            receiver.recv().expect("answered").expect("appended");
        }
    }

    fn links(folder: &Path) -> usize {
        let names = std::fs::read_dir(folder).expect("a folder");
        names.filter(|name| name.as_ref().expect("a name").path().extension() == Some("tmp".as_ref())).count()
    }

    #[test]
    fn what_the_log_gives_up_while_it_is_copied_is_in_the_copy() {
        let folder = tempfile::tempdir().expect("a folder");
        let (live, restored) = (folder.path().join("live"), folder.path().join("restored"));
        let journal = open(&live);
        append(&journal, 40);
        let held = Held::new(&journal).expect("held");
        append(&journal, 40);
        assert!(journal.trim(20).expect("trimmed") > 0);
        let mut copy = held.up_to_now().expect("copied");
        assert_eq!((copy.begin, copy.end), (0, 80));
        std::fs::create_dir(&restored).expect("a folder");
        for segment in &copy.segments {
            let bytes = std::fs::read(&segment.path).expect("kept");
            std::fs::write(restored.join(&segment.name), &bytes[..segment.bytes as usize]).expect("written");
        }
        std::fs::write(restored.join(copy.mark.0), &copy.mark.1).expect("written");
        let opened = open(&restored);
        assert_eq!((opened.begin(), opened.end()), (0, 80));
        assert!(links(&live) > 3);
        copy.segments.clear();
        assert_eq!(links(&live), 0);
    }

    #[test]
    fn what_is_blanked_while_it_is_held_is_copied_neither_way() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = open(folder.path());
        append(&journal, 40);
        let held = Held::new(&journal).expect("held");
        let blank = |frame: &journal::Frame<'_>| Some(vec![b' '; frame.payload.len()]);
        journal.rewrite(3, 4, &mut |frame| blank(frame)).expect("rewritten");
        assert!(matches!(held.up_to_now(), Err(CopyError::Rewritten)));
        assert_eq!(links(folder.path()), 0);
        let copy = Held::new(&journal).and_then(Held::up_to_now).expect("copied");
        assert_eq!((copy.begin, copy.end), (0, 40));
    }
}

//! Pins the log's files for a backup, which reads them while events come in and old files are deleted. Each file gets
//! a second name, a hard link, so that its content stays until the backup has read it. Keeping all files open instead
//! could exceed the process's limit of open files. The names end in `.tmp`, so that the next start after a crash
//! removes them together with the journal's other temporary files.

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
    #[error("`{path}` cannot be preserved for a backup: {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    /// An erasure has blanked events. A snapshot of the store from the same time may still contain their data.
    #[error("events are being erased from the log at this moment")]
    Rewritten,
}

/// The durable content of the log at one moment.
pub struct LogCopy {
    pub id: LogId,
    pub begin: u64,
    pub end: u64,
    pub segments: Vec<PinnedSegment>,
    /// The name and content of the file that makes a restored log end at `end`.
    pub mark: (&'static str, Vec<u8>),
}

/// A file of the log that is not deleted until this is dropped.
pub struct PinnedSegment {
    pub name: String,
    pub first: u64,
    /// The number of bytes, from the beginning of the file, that belong to the copy.
    pub bytes: u64,
    pub path: PathBuf,
}

impl PinnedSegment {
    /// Returns the device and inode, which identify the file whatever its name is.
    fn file(&self) -> Result<(u64, u64), CopyError> {
        let failed = |source| CopyError::Io { path: self.path.clone(), source };
        self.path.metadata().map(|file| (file.dev(), file.ino())).map_err(failed)
    }
}

impl Drop for PinnedSegment {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(file = %self.path.display(), %error, "a temporary file of a backup could not be removed; the next start removes it");
        }
    }
}

/// The files that the log had at one moment. They stay readable until this is dropped.
pub struct PinnedLog {
    journal: Journal,
    segments: Vec<PinnedSegment>,
}

impl PinnedLog {
    pub fn new(journal: &Journal) -> Result<Self, CopyError> {
        let (_, segments) = pin(journal, "held")?;
        Ok(Self { journal: journal.clone(), segments })
    }

    /// Returns the log from its start when it was pinned to its durable end now. Fails if an erasure has rewritten
    /// one of its files since then.
    pub fn up_to_now(self) -> Result<LogCopy, CopyError> {
        let (snapshot, now) = pin(&self.journal, "now")?;
        for pinned in &self.segments {
            if let Some(now) = now.iter().find(|segment| segment.first == pinned.first)
                && now.file()? != pinned.file()?
            {
                return Err(CopyError::Rewritten);
            }
        }
        let removed = self.segments.into_iter().filter(|segment| segment.first < snapshot.begin());
        let segments: Vec<PinnedSegment> = removed.chain(now).collect();
        let begin = segments.first().map_or(snapshot.begin(), |segment| segment.first);
        Ok(LogCopy {
            id: snapshot.log_id,
            begin,
            end: snapshot.end,
            mark: (Snapshot::MARK_NAME, snapshot.mark(begin)),
            segments,
        })
    }
}

/// Links every present file of the log. `round` is part of the new names, so that two rounds do not collide.
fn pin(journal: &Journal, round: &str) -> Result<(Snapshot, Vec<PinnedSegment>), CopyError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let snapshot = match journal.snapshot() {
            // The log deleted a segment during the snapshot.
            Err(ReadError::BelowBegin { .. }) if tries < LOG_COPY_TRIES_MAX => continue,
            snapshot => snapshot.map_err(|error| CopyError::Damaged(error.to_string()))?,
        };
        match link(&snapshot, round) {
            Err(CopyError::Io { source, .. })
                if source.kind() == io::ErrorKind::NotFound && tries < LOG_COPY_TRIES_MAX => {}
            linked => return linked.map(|segments| (snapshot, segments)),
        }
    }
}

fn link(snapshot: &Snapshot, round: &str) -> Result<Vec<PinnedSegment>, CopyError> {
    let mut pinned = Vec::with_capacity(snapshot.segments.len());
    for segment in &snapshot.segments {
        let path = segment.path.with_extension(format!("seg.{round}.tmp"));
        let mut linked = std::fs::hard_link(&segment.path, &path);
        if linked.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists) {
            // An earlier backup could not remove its link.
            linked = std::fs::remove_file(&path).and_then(|()| std::fs::hard_link(&segment.path, &path));
        }
        linked.map_err(|source| CopyError::Io { path: segment.path.clone(), source })?;
        let (name, first, bytes) = (segment.name.clone(), segment.first, segment.bytes);
        pinned.push(PinnedSegment { name, first, bytes, path });
    }
    Ok(pinned)
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
    fn segments_that_are_deleted_during_a_backup_are_in_the_copy() {
        let folder = tempfile::tempdir().expect("a folder");
        let (live, restored) = (folder.path().join("live"), folder.path().join("restored"));
        let journal = open(&live);
        append(&journal, 40);
        let pinned = PinnedLog::new(&journal).expect("pinned");
        append(&journal, 40);
        assert!(journal.trim(20).expect("trimmed") > 0);
        let mut copy = pinned.up_to_now().expect("copied");
        assert_eq!((copy.begin, copy.end), (0, 80));
        std::fs::create_dir(&restored).expect("a folder");
        for segment in &copy.segments {
            let bytes = std::fs::read(&segment.path).expect("readable");
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
    fn a_backup_fails_if_events_are_erased_during_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = open(folder.path());
        append(&journal, 40);
        let pinned = PinnedLog::new(&journal).expect("pinned");
        let blank = |frame: &journal::Frame<'_>| Some(vec![b' '; frame.payload.len()]);
        journal.rewrite(3, 4, &mut |frame| blank(frame)).expect("rewritten");
        assert!(matches!(pinned.up_to_now(), Err(CopyError::Rewritten)));
        assert_eq!(links(folder.path()), 0);
        let copy = PinnedLog::new(&journal).and_then(PinnedLog::up_to_now).expect("copied");
        assert_eq!((copy.begin, copy.end), (0, 40));
    }
}

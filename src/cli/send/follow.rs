//! `send --follow`: checks every file several times a second, and sends appended lines. A file that was replaced,
//! or truncated and rewritten, has new content, and is sent from its first line. A file that cannot be sent is skipped
//! until it changes.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use tokio::signal::unix::{SignalKind, signal};

use super::glob::Targets;
use super::transfer::{Context, Counts, Transfer};
use super::upload::ResumeMode;
use super::{Outcome, SendError, unreadable};
use crate::cli::exit::Failure;
use crate::cli::output::counted;

/// Pause between two checks of all files.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// Folders and patterns are searched for new files only at every fifth check.
const CHECKS_PER_SEARCH: u64 = 5;
/// At least this long passes between two reports about one file, so that a busy file does not fill the terminal.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// The state of one path, at which one file may replace another.
#[derive(Default)]
struct Followed {
    transfer: Option<Transfer>,
    /// For each first line that a file at this path had: the lowest generation for the next file. This process saw
    /// the old file go, so it can tell the next one apart even if both have the same first line.
    from_generation: HashMap<[u8; 32], u64>,
    /// The counts of `transfer` that were reported, and when.
    reported: Counts,
    reported_at: Option<Instant>,
    skipped: Option<Skipped>,
}

/// A file that could not be sent. It is tried again when the file changes.
struct Skipped {
    failure: Failure,
    version: Option<FileVersion>,
    /// The first line and the generation of the transfer that failed, if it had begun.
    begun: Option<([u8; 32], u64)>,
}

/// Tells two states of a path apart.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileVersion {
    device: u64,
    inode: u64,
    length: u64,
    modified: Option<SystemTime>,
}

pub async fn follow(
    targets: &Targets,
    again: bool,
    context: &Context,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    stop_on_signals(context)?;
    let mut files: BTreeMap<PathBuf, Followed> = BTreeMap::new();
    if targets.present().is_empty() {
        context.progress.note("there are no files yet; waiting for them");
    }
    let mut checks = 0;
    let ended = loop {
        if checks % CHECKS_PER_SEARCH == 0 {
            for path in targets.present() {
                files.entry(path).or_default();
            }
        }
        checks += 1;
        let checked = check_all(&mut files, again, context, outcome).await;
        if checked.is_err() || context.uploader.stop.within(CHECK_INTERVAL).await {
            break checked;
        }
    };
    for (path, followed) in &mut files {
        followed.report(path, context);
        if let Some(transfer) = &followed.transfer {
            outcome.add(transfer);
        }
        outcome.failures.extend(followed.skipped.take().map(|skipped| skipped.failure));
    }
    ended
}

fn stop_on_signals(context: &Context) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::Failed(error.to_string());
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let stop = context.uploader.stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.ask();
    });
    Ok(())
}

async fn check_all(
    files: &mut BTreeMap<PathBuf, Followed>,
    again: bool,
    context: &Context,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    for (path, followed) in files {
        let version = FileVersion::at(path);
        if followed.is_skipped(version) {
            continue;
        }
        match followed.check(path, again, context, outcome).await {
            Ok(()) => followed.skipped = None,
            Err(SendError::File(failure)) => followed.skip(path, failure, version, context, outcome),
            Err(SendError::Command(failure)) => return Err(failure),
        }
    }
    Ok(())
}

impl FileVersion {
    fn at(path: &Path) -> Option<Self> {
        let metadata = path.metadata().ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: metadata.modified().ok(),
        })
    }

    fn is_same_file(self, other: Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

impl Followed {
    /// Returns true if the file could not be sent and has not changed since. If it has changed, notes which
    /// generations it may continue.
    fn is_skipped(&mut self, version: Option<FileVersion>) -> bool {
        let Some(skipped) = &mut self.skipped else { return false };
        let Some(version) = version.filter(|version| skipped.version.as_ref() != Some(version)) else {
            return true;
        };
        if let Some((first_line, generation)) = skipped.begun.take() {
            let is_same = skipped.version.is_some_and(|before| before.is_same_file(version));
            self.from_generation.insert(first_line, generation + u64::from(!is_same));
        }
        false
    }

    /// Skips the file until it changes. Notes the reason, unless it was noted before.
    fn skip(
        &mut self,
        path: &Path,
        failure: Failure,
        version: Option<FileVersion>,
        context: &Context,
        outcome: &mut Outcome,
    ) {
        self.report(path, context);
        let begun = self.transfer.take().map(|transfer| {
            outcome.add(&transfer);
            (transfer.first_line, transfer.known.generation)
        });
        if self.skipped.as_ref().is_none_or(|skipped| skipped.failure != failure) {
            context.progress.note(&format!("{failure}; the file is skipped until it changes"));
        }
        self.skipped = Some(Skipped { failure, version, begun });
    }

    /// Sends what was appended to the file at `path`, or all of a new file there.
    async fn check(
        &mut self,
        path: &Path,
        again: bool,
        context: &Context,
        outcome: &mut Outcome,
    ) -> Result<(), SendError> {
        if let Some(transfer) = &mut self.transfer {
            let rewritten = transfer.is_rewritten();
            let replaced = path.exists() && !transfer.is_at(path);
            // If the file was replaced, its last line is complete even without a line break.
            let sent = if rewritten { Ok(()) } else { transfer.advance(replaced, context).await };
            if !rewritten && !replaced {
                sent?;
                if self.reported_at.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) {
                    self.report(path, context);
                }
                return Ok(());
            }
            outcome.add(transfer);
            self.from_generation.insert(transfer.first_line, transfer.known.generation + 1);
            self.report(path, context);
            self.transfer = None;
            let what = if rewritten { "was truncated or rewritten" } else { "was replaced by another file" };
            context.progress.note(&format!("{}: {what}", path.display()));
            // The failure belongs to the old file, so the new one is sent.
            match sent {
                Err(SendError::File(failure)) => {
                    context.progress.note(&failure.to_string());
                    outcome.failures.push(failure);
                }
                sent => sent?,
            }
        }
        let Ok(file) = File::open(path) else { return Ok(()) };
        let canonical = path.canonicalize().map_err(|error| unreadable(path, &error))?;
        let from_generation = &self.from_generation;
        let mode = |first_line: &[u8; 32]| match from_generation.get(first_line) {
            Some(from) => ResumeMode { again: false, from_generation: *from },
            None => ResumeMode { again: again && from_generation.is_empty(), from_generation: 0 },
        };
        self.transfer = Transfer::begin(&canonical, file, true, mode, context).await?;
        let Some(transfer) = &mut self.transfer else { return Ok(()) };
        let Counts { already_sent, .. } = transfer.counts;
        let stream = &transfer.known.upload.stream;
        let path_shown = path.display();
        context.progress.note(&match already_sent {
            0 => format!("{path_shown}: sending to stream `{stream}`"),
            _ => format!(
                "{path_shown}: sending to stream `{stream}`, after {} sent before",
                counted(already_sent, "line")
            ),
        });
        self.reported = Counts { events: 0, already_sent, rejected: transfer.rejected_before };
        let sent = transfer.advance(false, context).await;
        self.report(path, context);
        sent
    }

    /// Reports what was sent and rejected since the last report, if that is anything.
    fn report(&mut self, path: &Path, context: &Context) {
        let Some(transfer) = &self.transfer else { return };
        let (now, before) = (transfer.counts, self.reported);
        if now == before {
            return;
        }
        let events = counted(now.events.saturating_sub(before.events), "event");
        let rejected = match (now.rejected.saturating_sub(before.rejected), &transfer.last_rejected) {
            (0, _) | (_, None) => String::new(),
            (count, Some((line, reason))) => format!(
                ", rejected {}; the last is line {line}: {reason} (see {})",
                counted(count, "line"),
                transfer.rejected_path().display()
            ),
        };
        context.progress.note(&format!("{}: sent {events}{rejected}", path.display()));
        (self.reported, self.reported_at) = (now, Some(Instant::now()));
    }
}

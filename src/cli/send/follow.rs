//! `send --follow`: checks every file several times a second, and sends appended lines. A file that was replaced,
//! or truncated and rewritten, has new content, and is sent from its first line.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::glob::Targets;
use super::transfer::{Context, Transfer};
use super::upload::ResumeMode;
use super::{Outcome, SendError, unreadable};
use crate::cli::exit::Failure;

/// Pause between two checks of all files.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// Folders and patterns are searched for new files only at every fifth check.
const CHECKS_PER_SEARCH: u64 = 5;

/// The state of one path, at which one file may replace another.
#[derive(Default)]
struct Followed {
    transfer: Option<Transfer>,
    /// For each first line that a file at this path had: the lowest generation for the next file. This process saw
    /// the old file go, so it can tell the next one apart even if both have the same first line.
    from_generation: HashMap<[u8; 32], u64>,
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
    files
        .values()
        .filter_map(|followed| followed.transfer.as_ref())
        .for_each(|transfer| outcome.add(transfer));
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
        match followed.check(path, again, context, outcome).await {
            Ok(()) => {}
            Err(SendError::File(failure) | SendError::Server(failure)) => return Err(failure),
        }
    }
    Ok(())
}

impl Followed {
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
            if !rewritten {
                // If the file was replaced, its last line is complete even without a line break.
                transfer.advance(replaced, context).await?;
            }
            if !rewritten && !replaced {
                return Ok(());
            }
            outcome.add(transfer);
            self.from_generation.insert(transfer.first_line, transfer.known.generation + 1);
            self.transfer = None;
        }
        let Ok(file) = File::open(path) else { return Ok(()) };
        let canonical = path.canonicalize().map_err(|error| unreadable(path, &error))?;
        let from_generation = &self.from_generation;
        let mode = |first_line: &[u8; 32]| match from_generation.get(first_line) {
            Some(from) => ResumeMode { again: false, from_generation: *from },
            None => ResumeMode { again: again && from_generation.is_empty(), from_generation: 0 },
        };
        self.transfer = Transfer::begin(&canonical, file, true, mode, context).await?;
        match &mut self.transfer {
            Some(transfer) => transfer.advance(false, context).await,
            None => Ok(()),
        }
    }
}

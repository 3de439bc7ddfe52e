//! Going on with what is appended: every file is looked at a few times a second. A file that is replaced
//! by another, or cut and written anew, is other content, and is sent from its first line.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::glob::Targets;
use super::transfer::{Context, Transfer};
use super::upload::ResumeMode;
use super::{Outcome, Trouble, unreadable};
use crate::cli::exit::Failure;

const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Folders and patterns are gone through only every so many looks.
const LOOKS_A_SEARCH: u64 = 5;

/// One path, whatever file is there.
#[derive(Default)]
struct Followed {
    transfer: Option<Transfer>,
    /// For each first line that a file at this path had: the generation that the next may be of. That
    /// this process saw the file go is what tells the next one apart, even if it begins alike.
    from_generation: HashMap<[u8; 32], u64>,
}

pub async fn follow(
    targets: &Targets,
    again: bool,
    means: &Context,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    heed_signals(means)?;
    let mut files: BTreeMap<PathBuf, Followed> = BTreeMap::new();
    if targets.present().is_empty() {
        means.progress.note("there is nothing yet; waiting for it");
    }
    let mut looks = 0;
    let ended = loop {
        if looks % LOOKS_A_SEARCH == 0 {
            for path in targets.present() {
                files.entry(path).or_default();
            }
        }
        looks += 1;
        let looked = look_at_all(&mut files, again, means, outcome).await;
        if looked.is_err() || means.uploader.stop.within(LOOK_INTERVAL).await {
            break looked;
        }
    };
    files
        .values()
        .filter_map(|followed| followed.transfer.as_ref())
        .for_each(|transfer| outcome.add(transfer));
    ended
}

fn heed_signals(means: &Context) -> Result<(), Failure> {
    let no_signals = |error: std::io::Error| Failure::Failed(error.to_string());
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let stop = means.uploader.stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.ask();
    });
    Ok(())
}

async fn look_at_all(
    files: &mut BTreeMap<PathBuf, Followed>,
    again: bool,
    means: &Context,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    for (path, followed) in files {
        match followed.look(path, again, means, outcome).await {
            Ok(()) => {}
            Err(Trouble::File(failure) | Trouble::Server(failure)) => return Err(failure),
        }
    }
    Ok(())
}

impl Followed {
    async fn look(
        &mut self,
        path: &Path,
        again: bool,
        means: &Context,
        outcome: &mut Outcome,
    ) -> Result<(), Trouble> {
        if let Some(transfer) = &mut self.transfer {
            let rewritten = transfer.is_rewritten();
            let replaced = path.exists() && !transfer.is_at(path);
            if !rewritten {
                // Nobody completes the last line of a file that was replaced.
                transfer.advance(replaced, means).await?;
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
        let wish = |first_line: &[u8; 32]| match from_generation.get(first_line) {
            Some(from) => ResumeMode { again: false, from_generation: *from },
            None => ResumeMode { again: again && from_generation.is_empty(), from_generation: 0 },
        };
        self.transfer = Transfer::begin(&canonical, file, true, wish, means).await?;
        match &mut self.transfer {
            Some(transfer) => transfer.advance(false, means).await,
            None => Ok(()),
        }
    }
}

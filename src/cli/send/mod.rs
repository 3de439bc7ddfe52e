//! `millrace send`: files of events, one JSON object a line, each line once whatever breaks off.
//!
//! Every chunk of lines goes with the name of its source and the number of its first line. The server
//! remembers which lines of a source it has, for ever, so that nothing counts twice whoever sends it;
//! and the sender asks what is there before it begins, so that what was acknowledged is not sent again.

mod follow;
mod glob;
pub mod import;
mod lines;
mod move_to;
mod progress;
mod rejected;
mod resume;
mod transfer;
mod upload;
mod uploader;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use event::Stop;
use event::limits::CHUNK_LINES_MAX;
use serde_json::json;

use self::glob::Targets;
use self::progress::Progress;
use self::transfer::{Context, Counts, Transfer};
use self::upload::ResumeMode;
use self::uploader::Uploader;
use super::client::Server;
use super::exit::{Failure, block_on};
use crate::config::duration;

/// Lines that are refused are written to FILE.rejected with their reasons; the others are sent, and the
/// exit code is 6.
///
/// A file is known by its path, its first line and its content: sent twice, it counts once; what is
/// appended to it is sent by the next run; other content at the same path is sent as new.
#[derive(Args)]
pub struct Send {
    /// Files, folders (their *.jsonl, *.ndjson and *.json), or patterns with `*`, `?` and `**`
    #[arg(required = true, value_name = "FILE|DIR|GLOB")]
    what: Vec<PathBuf>,
    /// The stream that the lines are events of
    #[arg(long, value_name = "NAME", default_value = "revenue")]
    stream: String,
    /// Send everything once more, as new events, although it was sent before
    #[arg(long)]
    again: bool,
    /// Move each file there once all of it is acknowledged
    #[arg(long, value_name = "DIR", conflicts_with = "follow")]
    move_to: Option<PathBuf>,
    /// Go on with what is appended, until interrupted
    #[arg(long)]
    follow: bool,
    /// End when the server has not answered for this long, such as 90s [default: try for ever]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    give_up_after: Option<Duration>,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
    #[arg(long, hide = true, default_value_t = CHUNK_LINES_MAX as u64, value_parser = clap::value_parser!(u64).range(1..=CHUNK_LINES_MAX as u64))]
    chunk_lines: u64,
    #[command(flatten)]
    server: Server,
}

/// Why a file did not go, and whether others may.
pub enum Trouble {
    File(Failure),
    Server(Failure),
}

/// What is said at the end.
#[derive(Default)]
struct Outcome {
    files: u64,
    counts: Counts,
    rejected: BTreeSet<PathBuf>,
    failures: Vec<Failure>,
}

pub fn run(command: Send) -> ExitCode {
    block_on(send(command))
}

async fn send(command: Send) -> Result<(), Failure> {
    let begun = Instant::now();
    let targets = Targets::new(&command.what, command.move_to.as_deref());
    let means = Context {
        uploader: Uploader {
            client: command.server.client()?,
            stream: command.stream.clone(),
            exported: None,
            give_up_after: command.give_up_after,
            stop: Stop::default(),
        },
        progress: Progress::new(if command.follow { 0 } else { targets.bytes()? }),
        chunk_lines: command.chunk_lines,
    };
    let mut outcome = Outcome::default();
    let ended = match command.follow {
        true => follow::follow(&targets, command.again, &means, &mut outcome).await,
        false => send_all(&command, &targets, &means, &mut outcome).await,
    };
    means.progress.end();
    outcome.print(begun.elapsed(), command.json);
    ended?;
    outcome.verdict()
}

async fn send_all(
    command: &Send,
    targets: &Targets,
    means: &Context,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let handling = Handling { again: command.again, move_to: command.move_to.as_deref() };
    let files = targets.files()?;
    let alone = files.len() == 1;
    for path in files {
        match send_file(handling, &path, means, outcome).await {
            Ok(()) => {}
            // The others may go all the same. Where there are none, the end says it.
            Err(Trouble::File(failure)) => {
                if !alone {
                    means.progress.note(&failure.to_string());
                }
                outcome.failures.push(failure);
            }
            Err(Trouble::Server(failure)) => return Err(failure),
        }
    }
    Ok(())
}

/// What is to become of a file.
#[derive(Clone, Copy, Default)]
struct Handling<'a> {
    again: bool,
    move_to: Option<&'a Path>,
}

async fn send_file(
    handling: Handling<'_>,
    path: &Path,
    means: &Context,
    outcome: &mut Outcome,
) -> Result<(), Trouble> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err(Trouble::File(Failure::Failed(format!("{} is not a file of lines", path.display()))));
    }
    let empty = file.try_clone().map_err(|error| unreadable(path, &error))?;
    let wish = ResumeMode { again: handling.again, from_generation: 0 };
    let Some(mut transfer) = Transfer::begin(path, file, false, |_| wish, means).await? else {
        outcome.files += 1;
        return handling.move_to.map_or(Ok(()), |folder| moved(path, &empty, folder, means));
    };
    loop {
        let sent = transfer.advance(true, means).await;
        if sent.is_err() {
            outcome.add(&transfer);
        }
        sent?;
        if transfer.is_rewritten() {
            outcome.add(&transfer);
            let reason = "was cut or written anew while it was sent; send it again for what it holds now";
            return Err(Trouble::File(Failure::Failed(format!("{} {reason}", path.display()))));
        }
        let Some(folder) = handling.move_to else { break };
        // What was appended meanwhile belongs to it, and so does what still is after the move.
        if transfer.is_at_end().map_err(|error| unreadable(path, &error))? {
            let done = moved(path, transfer.file(), folder, means);
            let sent = transfer.advance(true, means).await;
            outcome.add(&transfer);
            return done.and(sent);
        }
    }
    outcome.add(&transfer);
    if transfer.counts.events == 0 && transfer.counts.there > 0 {
        let path = path.display();
        means.progress.note(&match means.uploader.exported {
            None => format!("{path}: already sent; `--again` sends it once more, as new events"),
            Some(_) => format!("{path}: already imported"),
        });
    }
    Ok(())
}

fn moved(path: &Path, file: &File, folder: &Path, means: &Context) -> Result<(), Trouble> {
    // Named where it is to go.
    if folder.canonicalize().is_ok_and(|folder| path.parent() == Some(folder.as_path())) {
        return Ok(());
    }
    match move_to::move_file(path, file, folder) {
        Ok(move_to::Moved::To(target)) => {
            if target.file_name() != path.file_name() {
                let (path, target) = (path.display(), target.display());
                means.progress.note(&format!("{path}: the name was taken; moved to {target}"));
            }
            Ok(())
        }
        Ok(move_to::Moved::NotOurs) => {
            means.progress.note(&format!("{}: another file came to this path; not moved", path.display()));
            Ok(())
        }
        Err(error) => Err(Trouble::File(Failure::Failed(format!(
            "{} is sent, but cannot be moved to {}: {error}",
            path.display(),
            folder.display()
        )))),
    }
}

impl Outcome {
    fn add(&mut self, transfer: &Transfer) {
        self.files += 1;
        self.counts.events += transfer.counts.events;
        self.counts.there += transfer.counts.there;
        self.counts.rejected += transfer.counts.rejected;
        if transfer.counts.rejected > 0 {
            self.rejected.insert(transfer.rejected_path().to_owned());
        }
    }

    fn print(&self, duration: Duration, as_json: bool) {
        let Counts { events, there, rejected } = self.counts;
        let files = self.files;
        if as_json {
            let seconds = duration.as_secs_f64();
            let paths: Vec<_> = self.rejected.iter().map(|path| path.to_string_lossy()).collect();
            let body = json!({
                "events": events, "files": files, "linesThereAlready": there, "rejected": rejected,
                "rejectedFiles": paths, "seconds": (seconds * 1_000.0).round() / 1_000.0,
            });
            println!("{body}");
        } else {
            let plural = if files == 1 { "file" } else { "files" };
            let seconds = duration.as_secs_f64();
            println!(
                "sent {events} events from {files} {plural} ({there} lines were there already, {rejected} rejected) in {seconds:.1} s"
            );
        }
    }

    /// How the command ends when the server has answered to the end.
    fn verdict(mut self) -> Result<(), Failure> {
        let said = self.failures.len();
        match self.failures.pop() {
            Some(failure) if said == 1 => Err(failure),
            Some(_) => Err(Failure::Failed(format!("{said} files could not be sent"))),
            None if self.counts.rejected > 0 => {
                let paths: Vec<_> = self.rejected.iter().map(|path| path.display().to_string()).collect();
                let rejected = self.counts.rejected;
                Err(Failure::Refused(format!("{rejected} lines were rejected: see {}", paths.join(", "))))
            }
            None => Ok(()),
        }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Server(failure)
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Trouble {
    Trouble::File(Failure::Failed(format!("{}: {error}", path.display())))
}

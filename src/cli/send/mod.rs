//! `millrace send`: sends files of events, one JSON object per line. Each line counts once, also after interruptions.
//!
//! Every chunk of lines carries the name of its upload and the number of its first line. The server remembers
//! permanently which lines of an upload it has. So no line counts twice, even if several senders send it. A sender
//! asks for these lines before it begins, so that it does not send acknowledged lines again.

mod follow;
mod glob;
pub mod import;
mod lines;
mod move_to;
mod progress;
mod refusal_run;
mod rejected;
mod resume;
mod stream_choice;
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
use self::stream_choice::StreamChoice;
use self::transfer::{Context, Counts, Transfer};
use self::upload::ResumeMode;
use self::uploader::Uploader;
use super::client_options::ClientOptions;
use super::exit::{Failure, block_on};
use super::output::{JsonDocument, counted, print};

#[derive(Args)]
pub struct Send {
    /// Files, folders (their *.jsonl, *.ndjson and *.json files), or patterns with `*`, `?` and `**`
    #[arg(required = true, value_name = "FILE|DIR|GLOB")]
    paths: Vec<PathBuf>,
    /// Stream that the lines are events of [default: for each file, the only stream that accepts its first line]
    #[arg(long, value_name = "STREAM")]
    stream: Option<String>,
    /// Send all lines once more, as new events, even if they were sent before
    #[arg(long)]
    again: bool,
    /// Move each file to this folder once all of its lines are acknowledged
    #[arg(long, value_name = "DIR", conflicts_with = "follow")]
    move_to: Option<PathBuf>,
    /// Also send lines that are appended later and files that appear, until SIGINT or SIGTERM
    #[arg(long)]
    follow: bool,
    /// Stop when the server has not answered for this long, such as 90s or 10m [default: retry without limit]
    #[arg(long, value_name = "DURATION", value_parser = event::parse_duration)]
    give_up_after: Option<Duration>,
    /// Go on even if 1,000 lines in a row are refused
    #[arg(long)]
    keep_going: bool,
    #[command(flatten)]
    format: JsonDocument,
    #[arg(long, hide = true, default_value_t = CHUNK_LINES_MAX as u64, value_parser = clap::value_parser!(u64).range(1..=CHUNK_LINES_MAX as u64))]
    chunk_lines: u64,
    #[command(flatten)]
    server: ClientOptions,
}

/// The reason why a file could not be sent.
pub enum SendError {
    /// A fault of this file. Other files can still be sent.
    File(Failure),
    /// A fault that ends the command: of the server, of the connection, or too many refused lines.
    Command(Failure),
}

/// The totals for the summary at the end.
#[derive(Default)]
struct Outcome {
    files: u64,
    counts: Counts,
    streams: BTreeSet<String>,
    rejected: BTreeSet<PathBuf>,
    failures: Vec<Failure>,
}

pub fn run(command: Send) -> ExitCode {
    block_on(send(command))
}

async fn send(command: Send) -> Result<(), Failure> {
    let begun = Instant::now();
    let targets = Targets::new(&command.paths, command.move_to.as_deref());
    let context = Context {
        uploader: Uploader {
            client: command.server.client()?,
            exported: None,
            give_up_after: command.give_up_after,
            stop: Stop::default(),
        },
        stream: StreamChoice::new(command.stream.clone()),
        progress: Progress::new(if command.follow { None } else { Some(targets.bytes()?) }),
        chunk_lines: command.chunk_lines,
        keep_going: command.keep_going,
    };
    let mut outcome = Outcome::default();
    let ended = if command.follow {
        follow::follow(&targets, command.again, &context, &mut outcome).await
    } else {
        send_all(&command, &targets, &context, &mut outcome).await
    };
    context.progress.end();
    let printed = outcome.print(begun.elapsed(), command.format.json);
    context.uploader.client.with_names(ended).await?;
    // The exit code tells of failures even if nobody reads the summary.
    outcome.verdict().and(printed)
}

async fn send_all(
    command: &Send,
    targets: &Targets,
    context: &Context,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let options = FileOptions { again: command.again, move_to: command.move_to.as_deref() };
    let files = targets.files()?;
    let alone = files.len() == 1;
    for path in files {
        match send_file(options, &path, context, outcome).await {
            Ok(()) => {}
            // Other files are still sent. If there is only this one, `verdict` reports the failure.
            Err(SendError::File(failure)) => {
                if !alone {
                    context.progress.note(&failure.to_string());
                }
                outcome.failures.push(failure);
            }
            Err(SendError::Command(failure)) => return Err(failure),
        }
    }
    Ok(())
}

/// Options for one file.
#[derive(Clone, Copy, Default)]
struct FileOptions<'a> {
    again: bool,
    move_to: Option<&'a Path>,
}

async fn send_file(
    options: FileOptions<'_>,
    path: &Path,
    context: &Context,
    outcome: &mut Outcome,
) -> Result<(), SendError> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err(SendError::File(Failure::Failed(format!("{} is not a regular file", path.display()))));
    }
    let empty = file.try_clone().map_err(|error| unreadable(path, &error))?;
    let mode = ResumeMode { again: options.again, from_generation: 0 };
    let Some(mut transfer) = Transfer::begin(path, file, false, |_| mode, context).await? else {
        outcome.files += 1;
        return options.move_to.map_or(Ok(()), |folder| move_to_folder(path, &empty, folder, context));
    };
    loop {
        let sent = transfer.advance(true, context).await;
        if sent.is_err() {
            outcome.add(&transfer);
        }
        sent?;
        if transfer.is_rewritten() {
            outcome.add(&transfer);
            let reason =
                "was truncated or rewritten while it was sent; run the command again to send the rest";
            return Err(SendError::File(Failure::Failed(format!("{} {reason}", path.display()))));
        }
        let Some(folder) = options.move_to else { break };
        // Lines that were appended meanwhile belong to this file, and so do lines that are appended after the move.
        if transfer.is_at_end().map_err(|error| unreadable(path, &error))? {
            let done = move_to_folder(path, transfer.file(), folder, context);
            let sent = transfer.advance(true, context).await;
            outcome.add(&transfer);
            return done.and(sent);
        }
    }
    outcome.add(&transfer);
    if transfer.counts.events == 0 && transfer.counts.already_sent > 0 {
        let path = path.display();
        context.progress.note(&match context.uploader.exported {
            None => format!("{path}: already sent; `--again` sends it again, as new events"),
            Some(_) => format!("{path}: already imported"),
        });
    }
    Ok(())
}

fn move_to_folder(path: &Path, file: &File, folder: &Path, context: &Context) -> Result<(), SendError> {
    // The file is in that folder already.
    if folder.canonicalize().is_ok_and(|folder| path.parent() == Some(folder.as_path())) {
        return Ok(());
    }
    match move_to::move_file(path, file, folder) {
        Ok(move_to::Moved::To(target)) => {
            if target.file_name() != path.file_name() {
                let (path, target) = (path.display(), target.display());
                context
                    .progress
                    .note(&format!("{path}: a file of this name exists already; moved to {target}"));
            }
            Ok(())
        }
        Ok(move_to::Moved::NotMoved) => {
            let reason = "not moved, because it was replaced, removed or extended meanwhile";
            context.progress.note(&format!("{}: {reason}", path.display()));
            Ok(())
        }
        Err(error) => Err(SendError::File(Failure::Failed(format!(
            "{} was sent, but cannot be moved to {}: {error}",
            path.display(),
            folder.display()
        )))),
    }
}

impl Outcome {
    fn add(&mut self, transfer: &Transfer) {
        self.files += 1;
        self.counts.events += transfer.counts.events;
        self.counts.already_sent += transfer.counts.already_sent;
        self.counts.rejected += transfer.counts.rejected;
        self.streams.insert(transfer.known.upload.stream.clone());
        if transfer.counts.rejected > 0 {
            self.rejected.insert(transfer.rejected_path().to_owned());
        }
    }

    fn print(&self, duration: Duration, as_json: bool) -> Result<(), Failure> {
        let Counts { events, already_sent, rejected } = self.counts;
        let files = self.files;
        if as_json {
            let seconds = duration.as_secs_f64();
            let paths: Vec<_> = self.rejected.iter().map(|path| path.to_string_lossy()).collect();
            let body = json!({
                "events": events, "files": files, "streams": self.streams, "linesThereAlready": already_sent, "rejected": rejected,
                "rejectedFiles": paths, "seconds": (seconds * 1_000.0).round() / 1_000.0,
            });
            print(&body.to_string())
        } else {
            let streams: Vec<String> = self.streams.iter().map(|stream| format!("`{stream}`")).collect();
            let to = match streams.len() {
                0 => String::new(),
                1 => format!(" to stream {}", streams[0]),
                _ => format!(" to the streams {}", streams.join(", ")),
            };
            print(&format!(
                "sent {} from {}{to} in {:.1} s; already sent: {}; rejected: {}",
                counted(events, "event"),
                counted(files, "file"),
                duration.as_secs_f64(),
                counted(already_sent, "line"),
                counted(rejected, "line")
            ))
        }
    }

    /// Returns the result of the command, if no fault of the server ended it.
    fn verdict(mut self) -> Result<(), Failure> {
        let count = self.failures.len();
        match self.failures.pop() {
            Some(failure) if count == 1 => Err(failure),
            Some(_) => Err(Failure::Failed(format!("{} could not be sent", counted(count as u64, "file")))),
            None if self.counts.rejected > 0 => {
                let paths: Vec<_> = self.rejected.iter().map(|path| path.display().to_string()).collect();
                let rejected = counted(self.counts.rejected, "line");
                let were = if self.counts.rejected == 1 { "was" } else { "were" };
                Err(Failure::Refused(format!("{rejected} {were} rejected: see {}", paths.join(", "))))
            }
            None => Ok(()),
        }
    }
}

impl From<Failure> for SendError {
    fn from(failure: Failure) -> Self {
        Self::Command(failure)
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> SendError {
    SendError::File(Failure::Failed(format!("{}: {error}", path.display())))
}

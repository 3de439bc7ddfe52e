//! `millrace import`: lines that `export` printed, sent back as they are. The server takes the event out of
//! each and knows it by the id it had; otherwise it is a sending like any other, so that it goes on where it
//! was, and counts nothing twice.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use event::limits::{CHUNK_LINES_MAX, ENVELOPE_BYTES_MAX, EVENT_BYTES_MAX};
use event::{EventId, Stop};
use serde::Deserialize;

use super::glob::Targets;
use super::progress::Progress;
use super::transfer::Context;
use super::uploader::Uploader;
use super::{Handling, Outcome, Trouble, send_file, unreadable};
use crate::cli::client::Server;
use crate::cli::exit::{Failure, block_on};
use crate::config::duration;

/// Lines whose event no view counted where they come from are passed by. Lines that are refused are written
/// to FILE.rejected with their reasons; the others are sent, and the exit code is 6.
///
/// Imported again, whole or in part, a line counts once: the server knows its file's lines for ever, and an
/// event's id, under whatever file name it comes, within the gate's window.
#[derive(Args)]
pub struct Import {
    /// Files that `export` made, folders of them, or patterns
    #[arg(required = true, value_name = "FILE|DIR|GLOB")]
    what: Vec<PathBuf>,
    /// The stream to import into [default: the one that the lines are of]
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// End when the server has not answered for this long, such as 90s [default: try for ever]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    give_up_after: Option<Duration>,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// What the first line says of all.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct First {
    id: String,
    stream: String,
    received_at: String,
}

pub fn run(command: Import) -> ExitCode {
    block_on(import(command))
}

async fn import(command: Import) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut outcome = Outcome::default();
    let files = Targets::new(&command.what, None).files()?;
    let alone = files.len() == 1;
    for path in files {
        let progress = Progress::new(path.metadata().map_or(0, |metadata| metadata.len()));
        let sent = import_file(&command, &path, progress, &mut outcome).await;
        match sent {
            Ok(()) => {}
            Err(Trouble::File(failure)) => {
                if !alone {
                    eprintln!("millrace: {failure}");
                }
                outcome.failures.push(failure);
            }
            Err(Trouble::Server(failure)) => {
                outcome.print(begun.elapsed(), command.json);
                return Err(failure);
            }
        }
    }
    outcome.print(begun.elapsed(), command.json);
    outcome.verdict()
}

async fn import_file(
    command: &Import,
    path: &Path,
    progress: Progress,
    outcome: &mut Outcome,
) -> Result<(), Trouble> {
    let Some(first) = first(path)? else {
        outcome.files += 1;
        return Ok(());
    };
    let means = Context {
        uploader: Uploader {
            client: command.server.client()?,
            stream: command.stream.clone().unwrap_or_else(|| first.stream.clone()),
            exported: Some(first.stream.clone()),
            give_up_after: command.give_up_after,
            stop: Stop::default(),
        },
        progress,
        chunk_lines: CHUNK_LINES_MAX as u64,
    };
    let sent = async {
        if is_there(&first, &means).await? {
            return Err(Trouble::File(Failure::Failed(format!(
                "{} was exported from this very server: imported, its events would count twice",
                path.display()
            ))));
        }
        send_file(Handling::default(), path, &means, outcome).await
    };
    let sent = sent.await;
    means.progress.end();
    sent
}

/// `None` if the file is empty.
fn first(path: &Path) -> Result<Option<First>, Trouble> {
    let mut line = Vec::new();
    let bytes_max = (EVENT_BYTES_MAX + ENVELOPE_BYTES_MAX) as u64;
    let read =
        File::open(path).and_then(|file| BufReader::new(file.take(bytes_max)).read_until(b'\n', &mut line));
    match read.map_err(|error| unreadable(path, &error))? {
        0 => Ok(None),
        _ => match serde_json::from_slice::<First>(&line) {
            Ok(first) if first.id.parse::<EventId>().is_ok() => Ok(Some(first)),
            _ => Err(Trouble::File(Failure::Failed(format!(
                "{} does not begin with a line of an export; `millrace send` sends lines of plain events",
                path.display()
            )))),
        },
    }
}

/// Whether the event is in the server's log under its own id, received at the very same time.
async fn is_there(first: &First, means: &Context) -> Result<bool, Failure> {
    let there = means.uploader.event(&first.id, &means.progress).await?;
    Ok(there
        .is_some_and(|there| there["receivedAt"] == *first.received_at && there["stream"] == *first.stream))
}

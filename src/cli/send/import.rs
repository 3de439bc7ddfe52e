//! `millrace import`: sends lines that `export` printed, unchanged. The server takes the event out of each line, and
//! recognises it by its original id. Everything else works like `send`: an import can be resumed, and counts nothing
//! twice.

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
use super::stream_choice::StreamChoice;
use super::transfer::Context;
use super::uploader::Uploader;
use super::{FileOptions, Outcome, SendError, send_file, unreadable};
use crate::cli::client_options::ClientOptions;
use crate::cli::exit::{Failure, block_on};
use crate::cli::output::JsonDocument;

#[derive(Args)]
pub struct Import {
    /// Files that `export` printed, folders of such files, or patterns with `*`, `?` and `**`
    #[arg(required = true, value_name = "FILE|DIR|GLOB")]
    paths: Vec<PathBuf>,
    /// Stream to import into [default: the stream that the file was exported from]
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// Stop when the server has not answered for this long, such as 90s or 10m [default: retry without limit]
    #[arg(long, value_name = "DURATION", value_parser = event::parse_duration)]
    give_up_after: Option<Duration>,
    /// Go on even if 1,000 lines in a row are refused
    #[arg(long)]
    keep_going: bool,
    #[command(flatten)]
    format: JsonDocument,
    #[command(flatten)]
    server: ClientOptions,
}

/// The fields of the first line that apply to the whole file.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FirstLine {
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
    let files = Targets::new(&command.paths, None).files()?;
    let alone = files.len() == 1;
    for path in files {
        let progress = Progress::new(path.metadata().ok().map(|metadata| metadata.len()));
        let sent = import_file(&command, &path, progress, &mut outcome).await;
        match sent {
            Ok(()) => {}
            Err(SendError::File(failure)) => {
                if !alone {
                    eprintln!("millrace: {failure}");
                }
                outcome.failures.push(failure);
            }
            Err(SendError::Command(failure)) => {
                drop(outcome.print(begun.elapsed(), command.format.json));
                return Err(failure);
            }
        }
    }
    let printed = outcome.print(begun.elapsed(), command.format.json);
    outcome.verdict().and(printed)
}

async fn import_file(
    command: &Import,
    path: &Path,
    progress: Progress,
    outcome: &mut Outcome,
) -> Result<(), SendError> {
    let Some(first) = first(path)? else {
        outcome.files += 1;
        return Ok(());
    };
    let context = Context {
        uploader: Uploader {
            client: command.server.client()?,
            exported: Some(first.stream.clone()),
            give_up_after: command.give_up_after,
            stop: Stop::default(),
        },
        stream: StreamChoice::Named(command.stream.clone().unwrap_or_else(|| first.stream.clone())),
        progress,
        chunk_lines: CHUNK_LINES_MAX as u64,
        keep_going: command.keep_going,
    };
    let sent = async {
        if is_in_log(&first, &context).await? {
            return Err(SendError::File(Failure::Failed(format!(
                "{} was exported from this server; an import would count its events twice",
                path.display()
            ))));
        }
        send_file(FileOptions::default(), path, &context, outcome).await
    };
    let sent = sent.await;
    context.progress.end();
    sent
}

/// Reads the first line. Returns `None` if the file is empty.
fn first(path: &Path) -> Result<Option<FirstLine>, SendError> {
    let mut line = Vec::new();
    let bytes_max = (EVENT_BYTES_MAX + ENVELOPE_BYTES_MAX) as u64;
    let read =
        File::open(path).and_then(|file| BufReader::new(file.take(bytes_max)).read_until(b'\n', &mut line));
    match read.map_err(|error| unreadable(path, &error))? {
        0 => Ok(None),
        _ => match serde_json::from_slice::<FirstLine>(&line) {
            Ok(first) if first.id.parse::<EventId>().is_ok() => Ok(Some(first)),
            _ => Err(SendError::File(Failure::Failed(format!(
                "{} is not an export: its first line is not an event in an envelope; \
                 send plain events with `millrace send`",
                path.display()
            )))),
        },
    }
}

/// Returns true if the server's own log has this event, with the same id and the same time of arrival.
async fn is_in_log(first: &FirstLine, context: &Context) -> Result<bool, Failure> {
    let known = context.uploader.event(&first.id, &context.progress).await?;
    Ok(known
        .is_some_and(|event| event["receivedAt"] == *first.received_at && event["stream"] == *first.stream))
}

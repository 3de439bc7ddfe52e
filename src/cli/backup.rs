//! `millrace backup`: writes everything that a running server keeps to one file. The file is verified while it is
//! written, in the same way as `restore` reads it. So a file that has its final name is a complete backup.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bytes::Bytes;
use clap::Args;
use event::limits::BACKUP_PIECES_WAITING_MAX;
use serde_json::json;
use tokio::sync::mpsc;

use super::client_options::ClientOptions;
use super::exit::{Failure, block_on};
use super::output::{JsonDocument, print};
use crate::backup::{BackupError, Manifest, verify};

/// How many names are tried for the temporary file.
const NAMES_MAX: u32 = 1_000;

#[derive(Args)]
pub struct Backup {
    /// File to write, or `-` for stdout; an existing file is replaced once the new one is complete
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    format: JsonDocument,
    #[command(flatten)]
    server: ClientOptions,
}

pub fn run(command: Backup) -> ExitCode {
    block_on(async { back_up(&command).await })
}

async fn back_up(command: &Backup) -> Result<(), Failure> {
    if command.format.json && is_stdout(&command.file) {
        let reason = "`--json` cannot be used with `-`: stdout is the backup itself";
        return Err(Failure::WrongUsage(reason.to_owned()));
    }
    let client = command.server.client()?;
    let mut response = client.open(client.request(reqwest::Method::GET, "/v1/backup")).await?;
    let (pieces, waiting) = mpsc::channel(BACKUP_PIECES_WAITING_MAX);
    let file = command.file.clone();
    let writer = tokio::task::spawn_blocking(move || write_verified(&file, waiting));
    let arrived = tokio::select! {
        arrived = pass_on(&mut response, &pieces) => arrived,
        _ = tokio::signal::ctrl_c() => Err(Failure::Failed("interrupted; no backup was kept".to_owned())),
    };
    if arrived.is_err() {
        drop(pieces.send(Err(io::ErrorKind::ConnectionAborted.into())).await);
    }
    drop(pieces);
    let written = writer.await.map_err(|error| Failure::Failed(error.to_string()))?;
    arrived?;
    let manifest = written?;
    if command.format.json {
        return print(&json!(manifest).to_string());
    }
    let Manifest { begin, end, log_id, store_elsewhere, .. } = manifest;
    let target =
        if is_stdout(&command.file) { "stdout".to_owned() } else { command.file.display().to_string() };
    let store = match &store_elsewhere {
        None => "with the store".to_owned(),
        Some(name) => format!("without the store {name}, which you back up with its own tools"),
    };
    eprintln!("backed up positions {begin} to {end} of log {log_id}, {store}, to {target}");
    Ok(())
}

/// Passes the pieces of the response on to the writer.
async fn pass_on(
    response: &mut reqwest::Response,
    pieces: &mpsc::Sender<io::Result<Bytes>>,
) -> Result<(), Failure> {
    let broken_off = |_| {
        Failure::Unreachable(
            "the backup broke off and was not kept; the server's program log may name the reason".to_owned(),
        )
    };
    while let Some(piece) = response.chunk().await.map_err(broken_off)? {
        if pieces.send(Ok(piece)).await.is_err() {
            // The writer has ended, and reports the reason itself.
            break;
        }
    }
    Ok(())
}

fn is_stdout(file: &Path) -> bool {
    file.as_os_str() == "-"
}

/// Writes the pieces to `path`, and keeps the file only if it is a complete backup.
fn write_verified(path: &Path, waiting: mpsc::Receiver<io::Result<Bytes>>) -> Result<Manifest, Failure> {
    let arriving = Arriving { waiting, piece: Bytes::new() };
    if is_stdout(path) {
        return read_manifest(Copied { arriving, output: io::stdout().lock(), name: "stdout".to_owned() });
    }
    let unwritable = |error: io::Error| Failure::Failed(format!("{}: {error}", path.display()));
    let target = target(path)?;
    let (file, temporary) = create_temporary(&target).map_err(unwritable)?;
    let name = path.display().to_string();
    let written = read_manifest(Copied { arriving, output: &file, name }).and_then(|manifest| {
        file.sync_all().and_then(|()| std::fs::rename(&temporary, &target)).map_err(unwritable)?;
        sync_folder_of(&target).map_err(unwritable)?;
        Ok(manifest)
    });
    if written.is_err() {
        // The failure itself is reported. A leftover file does no harm.
        drop(std::fs::remove_file(&temporary));
    }
    written
}

/// Creates a file beside `target` for the incomplete backup. It never opens an existing file, which may belong to
/// another process.
fn create_temporary(target: &Path) -> io::Result<(File, PathBuf)> {
    let mut number = 0;
    loop {
        let mut name = target.as_os_str().to_owned();
        name.push(if number == 0 { ".tmp".to_owned() } else { format!(".{number}.tmp") });
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&name);
        match opened {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < NAMES_MAX => number += 1,
            opened => return opened.map(|file| (file, name.into())),
        }
    }
}

/// Returns the file that `path` names, with links resolved. Fails if something other than a file is there.
fn target(path: &Path) -> Result<PathBuf, Failure> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {
            path.canonicalize().map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))
        }
        Ok(metadata) => {
            let what = if metadata.is_dir() { "a folder" } else { "not a regular file" };
            Err(Failure::Failed(format!("{} is {what}; name a file, or `-` for stdout", path.display())))
        }
        // The file does not exist. After any other error, its creation fails and reports the reason.
        Err(_) => Ok(path.to_owned()),
    }
}

/// Reads a complete backup, and returns its manifest.
fn read_manifest(copied: impl Read) -> Result<Manifest, Failure> {
    verify(copied).map_err(|error| match error {
        BackupError::Unreadable(error) => Failure::Failed(error.to_string()),
        error => Failure::Failed(format!("the backup from the server was not kept: {error}")),
    })
}

/// Syncs the folder of `path`, so that the name of the file is durable.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Reader over the pieces of a response, as they arrive.
struct Arriving {
    waiting: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Read for Arriving {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.waiting.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let count = bytes.len().min(self.piece.len());
        bytes[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}

/// Reader that also writes everything it reads to `output`.
struct Copied<W> {
    arriving: Arriving,
    output: W,
    name: String,
}

impl<W: Write> Read for Copied<W> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.arriving.read(bytes)?;
        let written = self.output.write_all(&bytes[..count]);
        let written = if count == 0 { written.and_then(|()| self.output.flush()) } else { written };
        written.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.name)))?;
        Ok(count)
    }
}

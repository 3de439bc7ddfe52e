//! `millrace backup`: all that a running server keeps, as one file. What arrives is read as `restore` would
//! read it while it is written, so that a file that has its name is a whole backup.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bytes::Bytes;
use clap::Args;
use event::limits::BACKUP_PIECES_WAITING_MAX;
use tokio::sync::mpsc;

use super::client::Server;
use super::exit::{Failure, block_on};
use crate::backup::{BackupError, Manifest, verify};

/// Names tried for a file that is not whole yet.
const NAMES_MAX: u32 = 1_000;

#[derive(Args)]
#[command(after_help = EXPLAINED)]
pub struct Backup {
    /// File to write, or `-` for stdout; one that is there is replaced once the new one is whole
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    server: Server,
}

const EXPLAINED: &str = "\
The server goes on meanwhile. The file is a tar of its data folder as it was at one moment: the
store, and every event that was acknowledged before; `millrace restore` makes a folder of it.
A store on a database server is not in it: back that up before, with its own tools.
Not in it are the file `api-key` and the configuration. It is as secret as the events are.";

pub fn run(command: Backup) -> ExitCode {
    block_on(async { take(&command).await })
}

async fn take(command: &Backup) -> Result<(), Failure> {
    let client = command.server.client()?;
    let mut answer = client.open("/v1/backup").await?;
    let (pieces, waiting) = mpsc::channel(BACKUP_PIECES_WAITING_MAX);
    let file = command.file.clone();
    let keeping = tokio::task::spawn_blocking(move || keep(&file, waiting));
    let arrived = tokio::select! {
        arrived = pass_on(&mut answer, &pieces) => arrived,
        _ = tokio::signal::ctrl_c() => Err(Failure::Failed("interrupted; nothing of it is kept".to_owned())),
    };
    if arrived.is_err() {
        drop(pieces.send(Err(io::ErrorKind::ConnectionAborted.into())).await);
    }
    drop(pieces);
    let kept = keeping.await.map_err(|error| Failure::Failed(error.to_string()))?;
    arrived?;
    let Manifest { begin, end, log_id, store_elsewhere, .. } = kept?;
    let place =
        if is_stdout(&command.file) { "stdout".to_owned() } else { command.file.display().to_string() };
    let store = match &store_elsewhere {
        None => "with the store".to_owned(),
        Some(name) => format!("without the store {name}, which has tools of its own for that"),
    };
    eprintln!("backed up positions {begin} to {end} of log {log_id}, {store}, to {place}");
    Ok(())
}

async fn pass_on(
    answer: &mut reqwest::Response,
    pieces: &mpsc::Sender<io::Result<Bytes>>,
) -> Result<(), Failure> {
    let broken_off = |_| {
        Failure::Unreachable(
            "the backup broke off, and nothing of it is kept; the server's log may say why".to_owned(),
        )
    };
    while let Some(piece) = answer.chunk().await.map_err(broken_off)? {
        if pieces.send(Ok(piece)).await.is_err() {
            // Nobody takes it any more: whoever did says why.
            break;
        }
    }
    Ok(())
}

fn is_stdout(file: &Path) -> bool {
    file.as_os_str() == "-"
}

/// Writes what arrives, if it is a whole backup.
fn keep(path: &Path, waiting: mpsc::Receiver<io::Result<Bytes>>) -> Result<Manifest, Failure> {
    let arriving = Arriving { waiting, piece: Bytes::new() };
    if is_stdout(path) {
        return verified(Copied { arriving, output: io::stdout().lock(), name: "stdout".to_owned() });
    }
    let unwritable = |error: io::Error| Failure::Failed(format!("{}: {error}", path.display()));
    let target = target(path)?;
    let (file, temporary) = beside(&target).map_err(unwritable)?;
    let name = path.display().to_string();
    let kept = verified(Copied { arriving, output: &file, name }).and_then(|manifest| {
        file.sync_all().and_then(|()| std::fs::rename(&temporary, &target)).map_err(unwritable)?;
        sync_folder_of(&target).map_err(unwritable)?;
        Ok(manifest)
    });
    if kept.is_err() {
        // What it is for has failed, and that is said.
        drop(std::fs::remove_file(&temporary));
    }
    kept
}

/// A new file for what is not whole yet. One that is there may be somebody else's.
fn beside(target: &Path) -> io::Result<(File, PathBuf)> {
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

/// The file that `path` names, through links. What is there and no file is not to be replaced by one.
fn target(path: &Path) -> Result<PathBuf, Failure> {
    match std::fs::metadata(path) {
        Ok(there) if there.is_file() => {
            path.canonicalize().map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))
        }
        Ok(there) => {
            let what = if there.is_dir() { "a folder" } else { "no file" };
            Err(Failure::Failed(format!("{} is {what}; name a file, or `-` for stdout", path.display())))
        }
        // What cannot be looked at cannot be made either, and is said then.
        Err(_) => Ok(path.to_owned()),
    }
}

fn verified(copied: impl Read) -> Result<Manifest, Failure> {
    verify(copied).map_err(|error| match error {
        BackupError::Unreadable(error) => Failure::Failed(error.to_string()),
        error => Failure::Failed(format!("the server's backup is not kept: {error}")),
    })
}

/// Makes a name durable.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// The pieces of an answer as they come.
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

/// What is read of it goes to `output`, too.
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

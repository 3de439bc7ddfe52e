//! `millrace restore`: a data folder out of a backup. It is made beside its place and given its name once
//! all of it is known to be right and on stable storage.

use std::fs::{DirBuilder, File};
use std::io::{self, BufReader, ErrorKind, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use rustix::fs::Mode;

use super::backup::sync_folder_of;
use super::exit::{Failure, ended};
use crate::backup::{BackupError, Manifest, unpack};

#[derive(Args)]
#[command(after_help = EXPLAINED)]
pub struct Restore {
    /// The backup, or `-` for stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The data folder to make; empty if it is there
    #[arg(long, env = "MILLRACE_DATA", value_name = "DIR", default_value = "data")]
    data: PathBuf,
}

const EXPLAINED: &str = "\
The restored server is the same one: its log has the same id. Never run it beside the one that was
backed up: both would give the same places to different events. Its first key is made anew when it
starts; all other keys are as they were.";

pub fn run(command: Restore) -> ExitCode {
    // As with `serve`, what is restored is its owner's alone.
    rustix::process::umask(Mode::from_raw_mode(0o077));
    ended(restore(&command))
}

fn restore(command: &Restore) -> Result<(), Failure> {
    let source: Box<dyn Read> = match command.file.as_os_str() == "-" {
        true => Box::new(io::stdin().lock()),
        false => Box::new(File::open(&command.file).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Failure::NotFound(format!("there is no file {}", command.file.display())),
            _ => failed(&command.file, &error),
        })?),
    };
    let data = &command.data;
    expect_empty(data)?;
    let temporary = make_temporary(data)?;
    let restored = fill(source, &temporary, command).and_then(|manifest| {
        std::fs::rename(&temporary, data).map_err(|error| {
            Failure::Failed(format!(
                "{} cannot take its place: {error}; where it is a mount, name a folder in it",
                data.display()
            ))
        })?;
        sync_folder_of(data).map_err(|error| failed(data, &error))?;
        Ok(manifest)
    });
    if restored.is_err() {
        // The reason is said; what is left would only keep the next try from its place.
        drop(std::fs::remove_dir_all(&temporary));
    }
    let Manifest { log_id, begin, end, created, store_elsewhere, .. } = restored?;
    eprintln!(
        "restored positions {begin} to {end} of log {log_id}, as they were on {created}, to {}",
        data.display()
    );
    if let Some(name) = store_elsewhere {
        eprintln!(
            "its store {name} is not in the backup: one that is no newer than it is caught up from the log"
        );
    }
    Ok(())
}

fn expect_empty(data: &Path) -> Result<(), Failure> {
    match std::fs::read_dir(data) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(Failure::Failed(format!("{} is not empty; name another folder", data.display()))),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(data, &error)),
    }
}

/// A folder beside, on the same disk, so that one rename is enough.
fn make_temporary(data: &Path) -> Result<PathBuf, Failure> {
    let Some(name) = data.file_name() else {
        return Err(Failure::Failed(format!("{} is no name for a data folder", data.display())));
    };
    let mut name = name.to_owned();
    name.push(".restore.tmp");
    let temporary = data.with_file_name(name);
    if let Some(above) = temporary.parent().filter(|above| !above.as_os_str().is_empty()) {
        std::fs::create_dir_all(above).map_err(|error| failed(above, &error))?;
    }
    DirBuilder::new().mode(0o700).create(&temporary).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Failure::Failed(format!(
            "{} is there: another restore runs, or one was killed; then remove it",
            temporary.display()
        )),
        _ => failed(&temporary, &error),
    })?;
    Ok(temporary)
}

fn fill(source: impl Read, folder: &Path, command: &Restore) -> Result<Manifest, Failure> {
    // As in every data folder: it is not for version control.
    let ignored = folder.join(".gitignore");
    std::fs::write(&ignored, "*\n").map_err(|error| failed(&ignored, &error))?;
    unpack(BufReader::new(source), folder).map_err(|error| {
        let said = format!("{} is not restored: {error}", command.file.display());
        match error {
            BackupError::Cut | BackupError::Damaged(_) => Failure::Different(said),
            _ => Failure::Failed(said),
        }
    })
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::Failed(format!("{}: {error}", path.display()))
}

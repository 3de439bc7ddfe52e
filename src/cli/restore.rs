//! `millrace restore`: creates a data folder from a backup. The folder is filled under a temporary name. It gets its
//! final name when all of it is verified and on stable storage.

use std::fs::{DirBuilder, File};
use std::io::{self, BufReader, ErrorKind, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use rustix::fs::Mode;
use serde_json::json;

use super::backup::sync_folder_of;
use super::exit::{Failure, exit_code};
use super::output::{JsonDocument, print};
use crate::backup::{BackupError, Manifest, unpack};

#[derive(Args)]
pub struct Restore {
    /// Backup file, or `-` for stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Data folder to create; an existing folder must be empty
    #[arg(long, env = "MILLRACE_DATA", value_name = "DIR", default_value = "data")]
    data: PathBuf,
    #[command(flatten)]
    format: JsonDocument,
}

pub fn run(command: Restore) -> ExitCode {
    // Only the owner may read the restored files, as with `serve`.
    rustix::process::umask(Mode::from_raw_mode(0o077));
    exit_code(restore(&command))
}

fn restore(command: &Restore) -> Result<(), Failure> {
    let source: Box<dyn Read> = if command.file.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(&command.file).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Failure::NotFound(format!("there is no file {}", command.file.display())),
            _ => failed(&command.file, &error),
        })?)
    };
    let data = &command.data;
    expect_empty(data)?;
    let temporary = make_temporary(data)?;
    let restored = fill(source, &temporary, command).and_then(|manifest| {
        std::fs::rename(&temporary, data).map_err(|error| {
            Failure::Failed(format!(
                "cannot rename the restored folder to {}: {error}; \
                 if that is a mount point, name a folder in it",
                data.display()
            ))
        })?;
        sync_folder_of(data).map_err(|error| failed(data, &error))?;
        Ok(manifest)
    });
    if restored.is_err() {
        // The failure itself is reported. A leftover folder would block the next attempt.
        drop(std::fs::remove_dir_all(&temporary));
    }
    let manifest = restored?;
    if command.format.json {
        return print(&json!(manifest).to_string());
    }
    let Manifest { log_id, begin, end, created, store_elsewhere, .. } = manifest;
    eprintln!(
        "restored positions {begin} to {end} of log {log_id}, as they were on {created}, to {}",
        data.display()
    );
    if let Some(name) = store_elsewhere {
        eprintln!(
            "the store {name} is not in the backup; a copy of it that is not newer catches up from the log"
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

/// Creates a folder beside `data`, on the same disk, so that one rename completes the restore.
fn make_temporary(data: &Path) -> Result<PathBuf, Failure> {
    let Some(name) = data.file_name() else {
        return Err(Failure::Failed(format!("{} is not a valid name for a data folder", data.display())));
    };
    let mut name = name.to_owned();
    name.push(".restore.tmp");
    let temporary = data.with_file_name(name);
    if let Some(above) = temporary.parent().filter(|above| !above.as_os_str().is_empty()) {
        std::fs::create_dir_all(above).map_err(|error| failed(above, &error))?;
    }
    DirBuilder::new().mode(0o700).create(&temporary).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Failure::Failed(format!(
            "{} exists: another restore is running, or one was killed; in that case, remove it",
            temporary.display()
        )),
        _ => failed(&temporary, &error),
    })?;
    Ok(temporary)
}

fn fill(source: impl Read, folder: &Path, command: &Restore) -> Result<Manifest, Failure> {
    // Like every data folder, it is kept out of version control.
    let ignored = folder.join(".gitignore");
    std::fs::write(&ignored, "*\n").map_err(|error| failed(&ignored, &error))?;
    unpack(BufReader::new(source), folder).map_err(|error| {
        let reason = format!("cannot restore {}: {error}", command.file.display());
        match error {
            BackupError::Cut | BackupError::Damaged(_) => Failure::Different(reason),
            _ => Failure::Failed(reason),
        }
    })
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::Failed(format!("{}: {error}", path.display()))
}

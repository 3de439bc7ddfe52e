//! A full log, and views that apply it to an empty database.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::servers::millrace::Millrace;
use crate::servers::{Folder, wait_for};

/// The configuration with all views of the presets.
pub const ALL_PRESETS: &str = "presets = [\"revenue\", \"analytics\", \"notifications\", \"inventory\"]\n";

/// Returns the folder of a server that has accepted `lines` and was stopped.
pub fn filled(program: &Path, above: &Path, config: &str, stream: &str, lines: &str) -> Outcome<Folder> {
    let folder = Folder::new(above, "anew")?;
    std::fs::write(folder.path().join("millrace.toml"), config)?;
    let server = Millrace::start_in(program, folder, None)?;
    server.client()?.send_lines_to(stream, &server.key, lines, 1)?;
    server.settle()?;
    server.stop()
}

/// Deletes the store of a stopped server.
pub fn delete_store(folder: &Folder) -> Outcome<()> {
    for name in ["millrace.db", "millrace.db-wal", "millrace.db-shm"] {
        let path = folder.path().join("data").join(name);
        if path.exists() {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Starts a server whose store is empty. Returns it and the seconds from the start of the views to lag 0 of `view`.
/// `what` names the view in the error if this takes too long.
pub fn caught_up(program: &Path, folder: Folder, what: &str, view: &str) -> Outcome<(f64, Millrace)> {
    let mut server = Millrace::start_in(program, folder, None)?;
    let mut client = server.client()?;
    wait_for(what, || {
        std::thread::sleep(Duration::from_millis(2));
        Ok(client.get("/ready")?["views"][view]["lag"] == 0)
    })?;
    let ended = Instant::now();
    let (begun, _) = server.logged("view runs")?;
    Ok(((ended - begun).as_secs_f64(), server))
}

/// Applies the log of `folder` to another store. Returns the seconds as `caught_up` does.
pub fn drained(
    program: &Path,
    folder: Folder,
    config: &str,
    url: &str,
    view: &str,
) -> Outcome<(f64, Folder)> {
    std::fs::write(folder.path().join("millrace.toml"), on_database(config, url))?;
    let (seconds, server) = caught_up(program, folder, "the view", view)?;
    server.settle()?;
    Ok((seconds, server.stop()?))
}

pub fn on_database(config: &str, url: &str) -> String {
    format!("{config}\n[store]\nurl = \"{url}\"\n")
}

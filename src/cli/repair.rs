//! `millrace repair`: looks over a log that a server refuses to open, says what is damaged and what would
//! be lost, and mends it if told to. Works on the files of a server that does not run.

use std::error::Error;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use journal::{Damage, Disk, InspectError, Inspection, Repaired, TornTail};
use serde_json::{Value, json};

use super::exit::{Failure, ended};
use super::output::{Columns, Output, Side, print};

#[derive(Args)]
#[command(after_help = EXPLAINED)]
pub struct Repair {
    /// The server's data folder
    #[arg(long, env = "MILLRACE_DATA", value_name = "DIR", default_value = "data")]
    data: PathBuf,
    /// Do it, and give up what is listed as lost
    #[arg(long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const EXPLAINED: &str = "\
Without --yes nothing is changed: every damaged place is listed, with the events that cannot be
read any more. With --yes the damaged files are written anew from what is intact; the originals
are kept beside them, and every other event keeps its position. A torn end of the log is no
damage: the server cuts it off by itself.";

pub fn run(command: Repair) -> ExitCode {
    ended(look_and_mend(&command))
}

fn look_and_mend(command: &Repair) -> Result<(), Failure> {
    let folder = command.data.join("journal");
    let lock = lock(&folder)?;
    let found = journal::inspect(&Disk::real(), &folder).map_err(|error| match error {
        InspectError::NoLog { .. } => Failure::NotFound(format!(
            "there is no log in `{}`; say `--data` with the server's data folder",
            folder.display()
        )),
        error => Failure::Failed(told(&error)),
    })?;
    // The repair takes the lock by itself, and looks whether all is as it was found here.
    drop(lock);
    let repaired = match command.yes && !found.damages.is_empty() {
        true => Some(
            journal::repair(&Disk::real(), &folder, &found).map_err(|error| Failure::Failed(told(&error)))?,
        ),
        false => None,
    };
    match command.json {
        true => print(&as_json(&found, repaired.as_ref()).to_string())?,
        false => tell(&found, repaired.as_ref())?,
    }
    match found.damages.is_empty() || repaired.is_some() {
        true => Ok(()),
        false => Err(Failure::Different(
            "the log is damaged, and nothing has been changed; copy the data folder, then say `--yes`"
                .to_owned(),
        )),
    }
}

/// Keeps servers out while the files are read: they lock the folder as well. Without a folder there is no log.
fn lock(folder: &Path) -> Result<Option<File>, Failure> {
    let Ok(file) = File::open(folder) else { return Ok(None) };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {
            Err(Failure::Failed(format!("a server uses `{}`; stop it first", folder.display())))
        }
        Err(TryLockError::Error(error)) => {
            Err(Failure::Failed(format!("`{}` cannot be locked: {error}", folder.display())))
        }
    }
}

fn tell(found: &Inspection, repaired: Option<&Repaired>) -> Result<(), Failure> {
    let mut output = Output::stdout();
    output.line(&format!(
        "log of positions {} to {}, {} bytes in {} segments",
        found.begin, found.end, found.bytes, found.segments
    ))?;
    if found.lost_events > 0 {
        output.line(&format!("{} events were given up by earlier repairs", found.lost_events))?;
    }
    if let Some(TornTail { file, offset, bytes }) = &found.torn_tail {
        output.line(&format!(
            "{bytes} bytes at the end of `{}`, from offset {offset} on, were never acknowledged: the server cuts them off when it starts",
            file.display()
        ))?;
    }
    if found.damages.is_empty() {
        output.line("no damage: there is nothing to repair")?;
        return output.flush();
    }
    output.line("")?;
    let heading = [
        ("FILE", Side::Left),
        ("OFFSET", Side::Right),
        ("EVENTS LOST", Side::Right),
        ("POSITIONS", Side::Left),
        ("DAMAGE", Side::Left),
    ];
    let rows: Vec<[String; 5]> = found.damages.iter().map(row).collect();
    Columns::new(heading).page(&mut output, &rows)?;
    output.line("")?;
    match repaired {
        None => {
            let lost: u64 = found.damages.iter().map(|damage| damage.lost_to - damage.lost_from).sum();
            output.line(&format!("repair would give up {lost} events"))?;
        }
        Some(repaired) => {
            for file in &repaired.rewritten {
                output.line(&format!("written anew  {}", file.display()))?;
            }
            for file in &repaired.kept {
                output.line(&format!("original kept {}", file.display()))?;
            }
            output.line(&format!("repaired; {} events given up", repaired.lost_events))?;
            if repaired.lost_events > 0 {
                output.line("Views keep what they had applied of them. `rebuild` and `reconcile` refuse from now on, because the log cannot vouch for these.")?;
            }
        }
    }
    output.flush()
}

fn row(damage: &Damage) -> [String; 5] {
    let lost = damage.lost_to - damage.lost_from;
    let positions = match lost {
        0 => "-".to_owned(),
        1 => damage.lost_from.to_string(),
        _ => format!("{} to {}", damage.lost_from, damage.lost_to - 1),
    };
    let file = damage.file.display().to_string();
    [file, damage.offset.to_string(), lost.to_string(), positions, damage.why.clone()]
}

fn as_json(found: &Inspection, repaired: Option<&Repaired>) -> Value {
    let damages = found.damages.iter().map(|damage| {
        json!({
            "file": damage.file,
            "offset": damage.offset,
            "why": damage.why,
            "lostFrom": damage.lost_from,
            "lostTo": damage.lost_to,
        })
    });
    let torn = found
        .torn_tail
        .as_ref()
        .map(|torn| json!({ "file": torn.file, "offset": torn.offset, "bytes": torn.bytes }));
    let repaired = repaired.map(|repaired| {
        json!({ "rewritten": repaired.rewritten, "kept": repaired.kept, "lostEvents": repaired.lost_events })
    });
    json!({
        "begin": found.begin,
        "end": found.end,
        "segments": found.segments,
        "bytes": found.bytes,
        "lostEarlier": found.lost_events,
        "damages": damages.collect::<Vec<_>>(),
        "tornTail": torn,
        "repaired": repaired,
    })
}

/// An error with its causes, in one line.
fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

//! `millrace repair`: finds damage in a log that the server refuses to open, lists the events that would be lost, and
//! repairs the log with `--yes`. It works on the files of a stopped server.

use std::error::Error;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use journal::{Damage, Disk, InspectError, Inspection, Repaired, TornTail};
use serde_json::{Value, json};

use super::exit::{Failure, exit_code};
use super::output::{Columns, JsonDocument, Output, Side, counted, print};

#[derive(Args)]
pub struct Repair {
    /// Data folder of the server
    #[arg(long, env = "MILLRACE_DATA", value_name = "DIR", default_value = "data")]
    data: PathBuf,
    /// Repair the log, and lose the events that are listed as lost
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    format: JsonDocument,
}

pub fn run(command: Repair) -> ExitCode {
    exit_code(inspect_and_repair(&command))
}

fn inspect_and_repair(command: &Repair) -> Result<(), Failure> {
    let folder = command.data.join("journal");
    let lock = lock(&folder)?;
    let found = journal::inspect(&Disk::real(), &folder).map_err(|error| match error {
        InspectError::NoLog { .. } => Failure::NotFound(format!(
            "there is no log in `{}`; name the server's data folder with `--data`",
            folder.display()
        )),
        error => Failure::Failed(with_causes(&error)),
    })?;
    // `journal::repair` takes the lock itself, and fails if the log has changed since this inspection.
    drop(lock);
    let repaired = if command.yes && !found.damages.is_empty() {
        Some(
            journal::repair(&Disk::real(), &folder, &found)
                .map_err(|error| Failure::Failed(with_causes(&error)))?,
        )
    } else {
        None
    };
    let printed = if command.format.json {
        print(&as_json(&found, repaired.as_ref()).to_string())
    } else {
        print_report(&found, repaired.as_ref())
    };
    // The exit code tells of damage even if nobody reads the whole report.
    if !found.damages.is_empty() && repaired.is_none() {
        let reason = "the log is damaged, and nothing was changed; copy the data folder, then repeat this with `--yes`";
        return Err(Failure::Different(reason.to_owned()));
    }
    printed
}

/// Locks the folder, so that no server uses its files meanwhile. Returns `None` if the folder does not exist; the
/// inspection reports that.
fn lock(folder: &Path) -> Result<Option<File>, Failure> {
    let Ok(file) = File::open(folder) else { return Ok(None) };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {
            Err(Failure::Failed(format!("a server uses `{}`; stop it first", folder.display())))
        }
        Err(TryLockError::Error(error)) => {
            Err(Failure::Failed(format!("cannot lock `{}`: {error}", folder.display())))
        }
    }
}

fn print_report(found: &Inspection, repaired: Option<&Repaired>) -> Result<(), Failure> {
    let mut output = Output::stdout();
    output.line(&format!(
        "log of positions {} to {}, {} in {}",
        found.begin,
        found.end,
        counted(found.bytes, "byte"),
        counted(found.segments as u64, "segment")
    ))?;
    if found.lost_events > 0 {
        output.line(&format!("earlier repairs lost {}", counted(found.lost_events, "event")))?;
    }
    if let Some(TornTail { file, offset, bytes }) = &found.torn_tail {
        output.line(&format!(
            "an incomplete record of {} at the end of `{}`, from offset {offset} on, was never acknowledged; \
             the server removes it when it starts",
            counted(*bytes, "byte"),
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
    Columns::new(heading).page(&mut output, found.damages.iter().map(row))?;
    output.line("")?;
    match repaired {
        None => {
            let lost: u64 = found.damages.iter().map(|damage| damage.lost_to - damage.lost_from).sum();
            output.line(&format!("a repair would lose {}", counted(lost, "event")))?;
        }
        Some(repaired) => {
            for file in &repaired.rewritten {
                output.line(&format!("rewritten      {}", file.display()))?;
            }
            for file in &repaired.kept {
                output.line(&format!("original kept  {}", file.display()))?;
            }
            output.line(&format!("repaired; {} lost", counted(repaired.lost_events, "event")))?;
            if repaired.lost_events > 0 {
                output.line(
                    "Views keep the lost events that they had applied. From now on, `reconcile` and \
                     `rebuild` are refused, because the log lacks these events.",
                )?;
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

/// Returns an error with its causes, as one line.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

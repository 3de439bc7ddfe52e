//! Removes the oldest segments of the log. The new beginning is recorded in the durable mark before a file is
//! removed, so that files left by a crash are not mistaken for damage.

use std::path::Path;

use crate::disk::{Disk, DiskError};
use crate::log_state::LogState;
use crate::segment::position_of;
use crate::writer_command::{Work, WriterError};

/// Why the log was not, or not completely, trimmed. The next trim or open removes files that are left below the
/// beginning.
#[derive(Debug, thiserror::Error)]
pub enum TrimError {
    #[error(transparent)]
    Writer(#[from] WriterError),
    #[error(transparent)]
    Io(#[from] DiskError),
}

pub(crate) fn trim(
    shared: &LogState,
    before: u64,
    ask: &mut dyn FnMut(Work) -> Result<u64, WriterError>,
) -> Result<u64, TrimError> {
    let _maintenance = shared.lock_maintenance();
    // After a close, another process may use the folder.
    if let Some(refusal) = shared.queue.refusal() {
        return Err(WriterError::from(refusal).into());
    }
    let begin = shared.begin_for(before);
    if begin > shared.begin() {
        ask(Work::BeginAt(begin))?;
    }
    if remove_below(&shared.disk, &shared.folder, shared.begin())? > 0 {
        let _renames = shared.lock_renames();
        shared.disk.sync_folder(&shared.folder)?;
        failpoint::hit("journal.trimmed");
    }
    Ok(shared.begin())
}

/// Removes the segments below `begin`, oldest first, and returns their number. `begin` must be durable. The removal
/// is durable after the folder is synced.
pub(crate) fn remove_below(disk: &Disk, folder: &Path, begin: u64) -> Result<usize, DiskError> {
    let mut removed = 0;
    for name in disk.list(folder)? {
        if position_of(&name).is_some_and(|first| first < begin) {
            disk.remove(&folder.join(name))?;
            failpoint::hit("journal.trim_removed");
            removed += 1;
        }
    }
    Ok(removed)
}

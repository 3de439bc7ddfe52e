//! Takes away the oldest part of the log, whole segments at a time. The durable mark says where the log
//! begins before anything below is removed, so that a crash leaves nothing that could pass for damage.

use std::path::Path;

use crate::command::{Work, WriterError};
use crate::disk::{Disk, DiskError};
use crate::failpoint;
use crate::journal::Shared;
use crate::segment::position_of;

/// Why nothing, or not everything, was removed. Files that are left below the beginning go with the next
/// trim, or when the log is opened.
#[derive(Debug, thiserror::Error)]
pub enum TrimError {
    #[error(transparent)]
    Writer {
        #[from]
        source: WriterError,
    },
    #[error(transparent)]
    Io {
        #[from]
        source: DiskError,
    },
}

pub(crate) fn trim(
    shared: &Shared,
    before: u64,
    ask: &mut dyn FnMut(Work) -> Result<u64, WriterError>,
) -> Result<u64, TrimError> {
    let _upkeep = shared.upkeep();
    // Once it is closed, the folder may be somebody else's.
    if let Some(refusal) = shared.queue.refusal() {
        return Err(WriterError::from(refusal).into());
    }
    let begin = shared.begin_for(before);
    if begin > shared.begin() {
        ask(Work::BeginAt(begin))?;
    }
    if remove_below(&shared.disk, &shared.folder, shared.begin())? > 0 {
        let _names = shared.names();
        shared.disk.sync_folder(&shared.folder)?;
        failpoint::hit("journal.trimmed");
    }
    Ok(shared.begin())
}

/// Removes the segments below `begin`, which is durable, oldest first; answers how many. Their removal is
/// durable once the folder is synced.
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

//! Opens a log: locks the folder, surveys it, and rewrites the last segment before anything in it is read.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::damage::Damage;
use crate::disk::{Disk, DiskError, Locked};
use crate::durable_mark::{Mark, MarkFile};
use crate::files_check::FilesCheck;
use crate::log_state::LogState;
use crate::queue::Queue;
use crate::segment::{Segment, SegmentHeader, file_name, write_whole};
use crate::survey::{Survey, SurveyError, survey};
use crate::trim::remove_below;
use crate::writer::Writer;
use crate::{LogId, Options};

/// Why the log was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Locked(#[from] Locked),
    #[error(
        "`{}` is corrupt at offset {offset}: {why}; run `millrace repair` to see which events would be lost",
        file.display()
    )]
    Corrupt { file: PathBuf, offset: u64, why: String },
    #[error("`{}` has format version {version}, which needs a newer version of this program", file.display())]
    NewerVersion { file: PathBuf, version: u32 },
    #[error(transparent)]
    Io(#[from] DiskError),
}

/// The state in which open found the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// True if there was no log and a new one was created.
    pub created: bool,
    /// True if the log was stopped cleanly.
    pub clean_stop: bool,
    pub begin: u64,
    pub end: u64,
    pub segments: usize,
    /// The number of bytes that were cut off. They were written but never synced, and so never acknowledged.
    pub torn_bytes_cut: u64,
    pub torn_file: Option<PathBuf>,
    /// The number of events in lost frames of a repair, in the part of the log that was checked.
    pub lost_events: u64,
}

impl From<SurveyError> for OpenError {
    fn from(error: SurveyError) -> Self {
        match error {
            SurveyError::NewerVersion { file, version } => Self::NewerVersion { file, version },
            SurveyError::Disk(source) => Self::Io(source),
        }
    }
}

impl From<Damage> for OpenError {
    fn from(damage: Damage) -> Self {
        Self::Corrupt { file: damage.file, offset: damage.offset, why: damage.why }
    }
}

pub(crate) fn recover(disk: Disk, folder: &Path, options: Options) -> Result<(Writer, Recovery), OpenError> {
    disk.create_folder(folder)?;
    let Some(lock) = disk.lock(folder)? else { return Err(Locked::of(folder).into()) };
    let mut survey = survey(&disk, folder, options.verify_bytes_max)?;
    if !survey.damages.is_empty() {
        return Err(survey.damages.swap_remove(0).into());
    }
    remove_temporaries(&disk, folder)?;
    let recovery = Recovery::of(&survey);
    let last = last_segment(&disk, &mut survey)?;
    let (first, end) = (last.first, survey.end);

    // The kernel may show bytes of the last segment that are not on the disk, and a sync of them may succeed without
    // writing them. Only a new file makes them durable.
    let failpoints = ["journal.recover_copied", "journal.recover_renamed"];
    let file = write_whole(&disk, folder, &file_name(first), &last.bytes, failpoints)?;
    failpoint::hit("journal.recovered");
    let synced_bytes = last.bytes.len() as u64;
    let mark = Mark {
        log_id: last.log_id,
        sequence: survey.mark.map_or(0, |mark| mark.sequence + 1),
        begin: survey.begin,
        end,
        segment_first: first,
        offset: synced_bytes,
        clean_stop: false,
    };
    let mark = MarkFile::create(&disk, folder, mark)?;
    // An interrupted trim may have left segments below the beginning. They are removed only now, because the new mark
    // has made the beginning durable, in whatever state the old mark was.
    if remove_below(&disk, folder, survey.begin)? > 0 {
        disk.sync_folder(folder)?;
    }

    let segments = segments_in_memory(folder, survey, first, synced_bytes);
    let segment = Arc::clone(segments.last().expect("a log has at least one segment"));
    let Options { segment_bytes_max, group_bytes_max, queue_bytes_max, observer, .. } = options;
    let queue = Queue::new(last.log_id, end, group_bytes_max, queue_bytes_max);
    let shared = LogState::new(last.log_id, disk, folder.to_owned(), queue, segments, end);
    let writer = Writer {
        shared: Arc::new(shared),
        observer,
        segment_bytes_max,
        segment,
        file,
        synced_bytes,
        preallocated_bytes: synced_bytes,
        end,
        mark,
        sync_time: Duration::ZERO,
        expected: 0,
        poisoned: None,
        files_check: FilesCheck::new(),
        lock,
    };
    Ok((writer, recovery))
}

impl Recovery {
    fn of(survey: &Survey) -> Self {
        let stopped_at = |mark: Mark| mark.clean_stop && mark.end == survey.end;
        Self {
            created: survey.segments.is_empty(),
            clean_stop: survey.mark.is_some_and(stopped_at),
            begin: survey.begin,
            end: survey.end,
            segments: survey.segments.len().max(1),
            torn_bytes_cut: survey.torn.as_ref().map_or(0, |torn| torn.bytes),
            torn_file: survey.torn.as_ref().map(|torn| torn.file.clone()),
            lost_events: survey.lost_events,
        }
    }
}

/// The content of the last segment after recovery.
struct LastSegment {
    log_id: LogId,
    first: u64,
    bytes: Vec<u8>,
}

/// Returns the intact part of the last segment, or the first segment of a new log.
fn last_segment(disk: &Disk, survey: &mut Survey) -> Result<LastSegment, DiskError> {
    if let (Some(log_id), Some(last)) = (survey.log_id, survey.segments.last()) {
        return Ok(LastSegment { log_id, first: last.first, bytes: std::mem::take(&mut survey.last_bytes) });
    }
    let header = SegmentHeader { log_id: LogId(disk.random_bytes()?), first: 0, previous_bytes: 0 };
    Ok(LastSegment { log_id: header.log_id, first: 0, bytes: header.to_bytes().to_vec() })
}

/// Removes temporary files that a crash has left. They never contain acknowledged events.
fn remove_temporaries(disk: &Disk, folder: &Path) -> Result<(), DiskError> {
    for name in disk.list(folder)? {
        if name.ends_with(".tmp") {
            disk.remove(&folder.join(name))?;
        }
    }
    Ok(())
}

fn segments_in_memory(folder: &Path, survey: Survey, last: u64, last_bytes: u64) -> Vec<Arc<Segment>> {
    let mut segments = survey.segments;
    let index = segments.pop().map_or(Vec::new(), |segment| segment.index);
    let path = folder.join(file_name(last));
    segments
        .into_iter()
        .map(|s| Segment::new(s.first, s.path, s.bytes, s.index))
        .chain([Segment::new(last, path, last_bytes, index)])
        .map(Arc::new)
        .collect()
}

//! Repairs a damaged log. Intact frames are copied, and gaps between them are filled with lost frames, so every
//! event keeps its position.

use std::path::{Path, PathBuf};

use crate::LogId;
use crate::disk::{Disk, DiskError, Locked};
use crate::durable_mark::{Mark, MarkFile};
use crate::frame::{self, Frame, FrameKind};
use crate::inspect::Inspection;
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, file_name, write_whole};
use crate::survey::{Survey, SurveyError, Surveyed, survey};

const FAILPOINTS: [&str; 2] = ["journal.repair_created", "journal.repair_renamed"];

/// The result of a repair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repaired {
    /// The segments that were written again.
    pub rewritten: Vec<PathBuf>,
    /// The damaged originals, which are kept in the same folder.
    pub kept: Vec<PathBuf>,
    /// The number of events that this repair replaced by lost frames.
    pub lost_events: u64,
    pub begin: u64,
    pub end: u64,
}

/// Why the log was not, or not completely, repaired. An interrupted repair can be run again.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    #[error(transparent)]
    Locked(#[from] Locked),
    #[error("`{}` has changed since it was inspected; inspect it again before a repair", folder.display())]
    Changed { folder: PathBuf },
    #[error("cannot repair `{}`: no file in it has an intact log id; restore a backup", folder.display())]
    NoLogId { folder: PathBuf },
    #[error(transparent)]
    Unreadable(#[from] SurveyError),
    #[error(transparent)]
    Io(#[from] DiskError),
}

/// Repairs exactly the damage in `inspection`. Fails if the folder has changed since the inspection.
pub fn repair(disk: &Disk, folder: &Path, inspection: &Inspection) -> Result<Repaired, RepairError> {
    let Some(_lock) = disk.lock(folder)? else { return Err(Locked::of(folder).into()) };
    let survey = survey(disk, folder, u64::MAX)?;
    if Inspection::of(&survey) != *inspection {
        let folder = folder.to_owned();
        return Err(RepairError::Changed { folder });
    }
    let mut repaired = Repaired { begin: survey.begin, end: survey.end, ..Repaired::default() };
    if survey.damages.is_empty() {
        return Ok(repaired);
    }
    let Some(log_id) = survey.log_id else {
        let folder = folder.to_owned();
        return Err(RepairError::NoLogId { folder });
    };
    let repair = Repair { disk, folder, log_id };
    let last = repair.repair_segments(&survey, &mut repaired)?;
    for stray in &survey.strays {
        repair.set_aside(stray, &mut repaired)?;
    }
    disk.sync_folder(folder)?;
    let mark = Mark {
        log_id,
        sequence: survey.mark.map_or(0, |mark| mark.sequence + 1),
        begin: survey.begin,
        end: survey.end,
        segment_first: last.0,
        offset: last.1,
        clean_stop: false,
    };
    MarkFile::create(disk, folder, mark)?;
    Ok(repaired)
}

struct Repair<'a> {
    disk: &'a Disk,
    folder: &'a Path,
    log_id: LogId,
}

impl Repair<'_> {
    /// Repairs all segments, oldest first, because each header contains the length of the previous segment. Returns
    /// the first position and the length of the last segment.
    fn repair_segments(&self, survey: &Survey, repaired: &mut Repaired) -> Result<(u64, u64), RepairError> {
        let mut parts: Vec<(u64, Option<&Surveyed>)> = Vec::new();
        if survey.segments.first().is_none_or(|segment| segment.first > survey.begin) {
            parts.push((survey.begin, None));
        }
        parts.extend(survey.segments.iter().map(|segment| (segment.first, Some(segment))));
        // Segments before the first one may have been trimmed, so its recorded previous length is kept.
        let first = survey.segments.first().and_then(|segment| segment.header);
        let mut previous_bytes = match parts.first() {
            Some((_, Some(_))) => first.map_or(0, |header| header.previous_bytes),
            _ => 0,
        };
        for (at, (first, source)) in parts.iter().enumerate() {
            let bound = parts.get(at + 1).map_or(survey.end, |next| next.0);
            let header = SegmentHeader { log_id: self.log_id, first: *first, previous_bytes };
            let is_last = at + 1 == parts.len();
            previous_bytes = self.repair_segment(header, bound, *source, is_last, repaired)?;
        }
        let last = parts.last().map_or(survey.begin, |part| part.0);
        Ok((last, previous_bytes))
    }

    /// Repairs one segment if it is damaged, misnamed or missing, and returns its length.
    fn repair_segment(
        &self,
        header: SegmentHeader,
        bound: u64,
        source: Option<&Surveyed>,
        is_last: bool,
        repaired: &mut Repaired,
    ) -> Result<u64, RepairError> {
        let name = file_name(header.first);
        let path = self.folder.join(&name);
        let original = match source {
            Some(source) => self.disk.read(&source.path)?.unwrap_or_default(),
            None => Vec::new(),
        };
        let (bytes, lost) = self.rebuild(header, bound, source, &original);
        repaired.lost_events += lost;
        let misnamed = source.filter(|source| source.path != path);
        // A torn tail of the last segment is not damage. Open cuts it off.
        let intact = original == bytes || (is_last && original.starts_with(&bytes));
        if intact && misnamed.is_none() {
            return Ok(bytes.len() as u64);
        }
        if source.is_some() && misnamed.is_none() {
            let kept = self.free_name(&name)?;
            write_whole(self.disk, self.folder, &kept, &original, FAILPOINTS)?;
            repaired.kept.push(self.folder.join(kept));
        }
        write_whole(self.disk, self.folder, &name, &bytes, FAILPOINTS)?;
        repaired.rewritten.push(path);
        if let Some(misnamed) = misnamed {
            self.set_aside(&misnamed.path, repaired)?;
        }
        Ok(bytes.len() as u64)
    }

    /// Builds a segment up to position `bound` from the intact frames, with lost frames in the gaps. Returns its
    /// bytes and the number of lost events.
    fn rebuild(
        &self,
        header: SegmentHeader,
        bound: u64,
        source: Option<&Surveyed>,
        original: &[u8],
    ) -> (Vec<u8>, u64) {
        let mut bytes = header.to_bytes().to_vec();
        let mut position = header.first;
        let mut lost = 0;
        for run in source.map_or(&[][..], |source| &source.runs) {
            let mut rest = &original[run.from.offset as usize..run.to.offset as usize];
            while let Some((frame, after)) = frame::parse_checked(rest) {
                let frame_bytes = &rest[..rest.len() - after.len()];
                rest = after;
                // A frame is dropped if its events, or a part of them, belong to another segment.
                if frame.position < position || frame.end() > bound {
                    continue;
                }
                lost += self.fill_with_lost(&mut bytes, position, frame.position);
                bytes.extend_from_slice(frame_bytes);
                position = frame.end();
            }
        }
        lost += self.fill_with_lost(&mut bytes, position, bound);
        debug_assert!(bytes.len() >= SEGMENT_HEADER_BYTES);
        (bytes, lost)
    }

    /// Appends lost frames for the positions `from..to`, and returns the number of positions.
    fn fill_with_lost(&self, bytes: &mut Vec<u8>, from: u64, to: u64) -> u64 {
        let mut position = from;
        while position < to {
            let count = u32::try_from(to - position).unwrap_or(u32::MAX);
            let frame = Frame { position, count, kind: FrameKind::Lost, payload: &[] };
            let checksum = frame::payload_checksum(frame.payload);
            frame::write(bytes, &self.log_id, frame, 0, checksum);
            position += u64::from(count);
        }
        to.saturating_sub(from)
    }

    /// Renames a file that is not part of the log to a free `*.damaged` name.
    fn set_aside(&self, path: &Path, repaired: &mut Repaired) -> Result<(), RepairError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let kept = self.folder.join(self.free_name(&name)?);
        self.disk.rename_path(path, &kept)?;
        self.disk.sync_folder(self.folder)?;
        repaired.kept.push(kept);
        Ok(())
    }

    /// Returns `<name>.damaged`, or a numbered name if an earlier repair has left such a file.
    fn free_name(&self, name: &str) -> Result<String, RepairError> {
        let taken = self.disk.list(self.folder)?;
        let numbered = (2..).map(|number| format!("{name}.damaged.{number}"));
        let mut names = std::iter::once(format!("{name}.damaged")).chain(numbered);
        let free = names.find(|name| !taken.contains(name));
        Ok(free.expect("some number is not taken"))
    }
}

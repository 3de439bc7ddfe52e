//! Mends a damaged log without moving anything: intact frames are copied, and what is
//! missing between them is filled with Lost frames, so every position stays what it was.

use std::path::{Path, PathBuf};

use crate::LogId;
use crate::disk::{Disk, DiskError, Locked};
use crate::durable_mark::{Mark, MarkFile};
use crate::frame::{self, Frame, FrameKind};
use crate::inspect::Inspection;
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, file_name, write_whole};
use crate::survey::{Survey, SurveyError, Surveyed, survey};

const FAILPOINTS: [&str; 2] = ["journal.repair_created", "journal.repair_renamed"];

/// What a repair did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Segments written anew.
    pub rewritten: Vec<PathBuf>,
    /// The damaged originals, beside them.
    pub kept: Vec<PathBuf>,
    /// Events that became Lost frames now.
    pub lost_events: u64,
    pub begin: u64,
    pub end: u64,
}

/// Why nothing, or not everything, was repaired. A repair cut off may be run again.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    #[error(transparent)]
    Locked(#[from] Locked),
    #[error("`{}` is not as it was inspected", folder.display())]
    Changed { folder: PathBuf },
    #[error("no file in `{}` says which log it belongs to", folder.display())]
    NoLogId { folder: PathBuf },
    #[error("`{}` has format version {version}, newer than this program knows", file.display())]
    NewerVersion { file: PathBuf, version: u32 },
    #[error(transparent)]
    Io {
        #[from]
        source: DiskError,
    },
}

impl From<SurveyError> for RepairError {
    fn from(error: SurveyError) -> Self {
        match error {
            SurveyError::NewerVersion { file, version } => Self::NewerVersion { file, version },
            SurveyError::Disk(source) => Self::Io { source },
        }
    }
}

/// Repairs exactly what `inspection` says, or nothing if the folder has changed since.
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
    let last = repair.mend_segments(&survey, &mut repaired)?;
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
    /// Oldest first, since every segment's header holds the length of the one before.
    /// Answers the last one's first position and length.
    fn mend_segments(&self, survey: &Survey, repaired: &mut Repaired) -> Result<(u64, u64), RepairError> {
        let mut parts: Vec<(u64, Option<&Surveyed>)> = Vec::new();
        if survey.segments.first().is_none_or(|segment| segment.first > survey.begin) {
            parts.push((survey.begin, None));
        }
        parts.extend(survey.segments.iter().map(|segment| (segment.first, Some(segment))));
        // Retention may have taken what came before the first segment.
        let first = survey.segments.first().and_then(|segment| segment.header);
        let mut previous_bytes = match parts.first() {
            Some((_, Some(_))) => first.map_or(0, |header| header.previous_bytes),
            _ => 0,
        };
        for (at, (first, source)) in parts.iter().enumerate() {
            let bound = parts.get(at + 1).map_or(survey.end, |next| next.0);
            let header = SegmentHeader { log_id: self.log_id, first: *first, previous_bytes };
            let keeps_tail = at + 1 == parts.len();
            previous_bytes = self.mend(header, bound, *source, keeps_tail, repaired)?;
        }
        let last = parts.last().map_or(survey.begin, |part| part.0);
        Ok((last, previous_bytes))
    }

    /// Brings one segment to what it should be; answers its length.
    fn mend(
        &self,
        header: SegmentHeader,
        bound: u64,
        source: Option<&Surveyed>,
        keeps_tail: bool,
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
        // A torn tail is no damage: open cuts it.
        let good = original == bytes || (keeps_tail && original.starts_with(&bytes));
        if good && misnamed.is_none() {
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

    /// A segment of the intact frames, with Lost frames up to `bound` where none are.
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
                // What another segment holds as well, or what reaches into it, goes.
                if frame.position < position || frame.end() > bound {
                    continue;
                }
                lost += self.fill(&mut bytes, position, frame.position);
                bytes.extend_from_slice(frame_bytes);
                position = frame.end();
            }
        }
        lost += self.fill(&mut bytes, position, bound);
        debug_assert!(bytes.len() >= SEGMENT_HEADER_BYTES);
        (bytes, lost)
    }

    /// Lost frames for the positions `from..to`; answers how many those are.
    fn fill(&self, bytes: &mut Vec<u8>, from: u64, to: u64) -> u64 {
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

    fn set_aside(&self, path: &Path, repaired: &mut Repaired) -> Result<(), RepairError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let kept = self.folder.join(self.free_name(&name)?);
        self.disk.rename_path(path, &kept)?;
        self.disk.sync_folder(self.folder)?;
        repaired.kept.push(kept);
        Ok(())
    }

    /// `<name>.damaged`, or with a number if an earlier repair left one.
    fn free_name(&self, name: &str) -> Result<String, RepairError> {
        let taken = self.disk.list(self.folder)?;
        let numbered = (2..).map(|number| format!("{name}.damaged.{number}"));
        let mut names = std::iter::once(format!("{name}.damaged")).chain(numbered);
        let free = names.find(|name| !taken.contains(name));
        Ok(free.expect("numbers do not run out"))
    }
}

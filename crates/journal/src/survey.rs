//! Reads the files in a log's folder without changes, and tells damage from a torn tail. Both `recover` and `inspect`
//! use the result, so that they never disagree.
//!
//! Bytes that are not intact are damage if there is evidence that they were durable. The evidence is the durable
//! mark, a later intact frame, or a later segment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::LogId;
use crate::damage::{Damage, TornTail};
use crate::disk::{Disk, DiskError};
use crate::durable_mark::{MARK_FILE, Mark, read_marks};
use crate::scan::{Gap, Run, Scan, scan};
use crate::segment::{HeaderFault, Location, SEGMENT_HEADER_BYTES, SegmentHeader, file_name, position_of};

/// Why the files of a log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    #[error("`{}` has format version {version}, which needs a newer version of this program", file.display())]
    NewerVersion { file: PathBuf, version: u32 },
    #[error(transparent)]
    Disk(#[from] DiskError),
}

#[derive(Default)]
pub(crate) struct Survey {
    pub log_id: Option<LogId>,
    pub mark: Option<Mark>,
    /// The segments of the log, sorted by first position.
    pub segments: Vec<Surveyed>,
    /// Segments that are not part of the log: of another log, duplicates, or damaged ones below the beginning.
    pub strays: Vec<PathBuf>,
    pub damages: Vec<Damage>,
    pub torn: Option<TornTail>,
    pub begin: u64,
    /// The position after the last event. If the end of the log is missing, its lost events are included.
    pub end: u64,
    pub lost_events: u64,
    /// The bytes of the last segment, without a torn tail.
    pub last_bytes: Vec<u8>,
}

pub(crate) struct Surveyed {
    pub path: PathBuf,
    pub first: u64,
    pub header: Option<SegmentHeader>,
    pub bytes: u64,
    pub runs: Vec<Run>,
    pub index: Vec<Location>,
}

/// Surveys the folder. Checks the frames of sealed segments, newest first, up to `verify_bytes_max` bytes.
pub(crate) fn survey(disk: &Disk, folder: &Path, verify_bytes_max: u64) -> Result<Survey, SurveyError> {
    let mut survey = Survey::default();
    let marks = read_marks(disk, folder)?;
    if let Some(version) = marks.newer_version {
        let file = folder.join(MARK_FILE);
        return Err(SurveyError::NewerVersion { file, version });
    }
    let candidates = candidates(disk, folder, &mut survey)?;
    survey.choose_log_id(&candidates, marks.newest);
    survey.take_mark(folder, marks.newest);
    survey.take_segments(candidates);
    survey.check_beginning(folder);
    survey.check_segments(disk, verify_bytes_max)?;
    let by_offset = |damage: &Damage| (damage.file.clone(), damage.offset);
    survey.damages.sort_by_cached_key(by_offset);
    Ok(survey)
}

/// Returns every file whose name ends in `.seg`, with its header.
fn candidates(disk: &Disk, folder: &Path, survey: &mut Survey) -> Result<Vec<Surveyed>, SurveyError> {
    let mut candidates = Vec::new();
    for name in disk.list(folder)? {
        if !name.ends_with(".seg") {
            continue;
        }
        let path = folder.join(&name);
        let file = disk.open(&path)?;
        let bytes = file.bytes()?;
        let mut start = vec![0; bytes.min(SEGMENT_HEADER_BYTES as u64) as usize];
        file.read_at(&mut start, 0)?;
        let header = match SegmentHeader::parse(&start) {
            Ok(header) => Some(header),
            Err(HeaderFault::Newer(version)) => {
                return Err(SurveyError::NewerVersion { file: path, version });
            }
            Err(HeaderFault::Damaged(why)) => {
                survey.damage(&path, 0, why, None);
                None
            }
        };
        // An intact header is trusted more than the file name, which anybody can change.
        let Some(first) = header.map(|header| header.first).or(position_of(&name)) else {
            survey.strays.push(path);
            continue;
        };
        if name != file_name(first) {
            let why = format!("the file name is wrong: the header is that of `{}`", file_name(first));
            survey.damage(&path, 0, &why, None);
        }
        candidates.push(Surveyed { path, first, header, bytes, runs: Vec::new(), index: Vec::new() });
    }
    candidates.sort_by_key(|segment| segment.first);
    Ok(candidates)
}

impl Survey {
    fn damage(&mut self, file: &Path, offset: u64, why: &str, lost: Option<(u64, u64)>) {
        let (lost_from, lost_to) = lost.unwrap_or((0, 0));
        self.damages.push(Damage { file: file.to_owned(), offset, why: why.to_owned(), lost_from, lost_to });
    }

    /// Chooses the log id that most files have. If two ids are equally frequent, the oldest segment decides.
    fn choose_log_id(&mut self, candidates: &[Surveyed], mark: Option<Mark>) {
        let ids = candidates.iter().filter_map(|segment| segment.header);
        let ids = ids.map(|header| header.log_id).chain(mark.map(|mark| mark.log_id));
        let mut votes: BTreeMap<LogId, usize> = BTreeMap::new();
        for id in ids {
            let count = votes.entry(id).or_default();
            *count += 1;
            let leader = self.log_id.and_then(|leader| votes.get(&leader).copied());
            if leader.is_none_or(|leader| votes[&id] > leader) {
                self.log_id = Some(id);
            }
        }
    }

    fn take_mark(&mut self, folder: &Path, mark: Option<Mark>) {
        match mark {
            Some(mark) if Some(mark.log_id) != self.log_id => {
                let why = "the durable mark belongs to another log";
                self.damage(&folder.join(MARK_FILE), 0, why, None);
            }
            mark => self.mark = mark,
        }
    }

    fn take_segments(&mut self, candidates: Vec<Surveyed>) {
        let begin = self.mark.map_or(0, |mark| mark.begin);
        for segment in candidates {
            let foreign = segment.header.is_some_and(|h| Some(h.log_id) != self.log_id);
            let twice = self.segments.last().is_some_and(|s| s.first == segment.first);
            let why = if foreign {
                "the segment belongs to another log"
            } else if segment.first < begin {
                self.skip_trimmed(segment);
                continue;
            } else if twice {
                "the segment exists twice"
            } else {
                self.segments.push(segment);
                continue;
            };
            self.damage(&segment.path, 0, why, None);
            self.strays.push(segment.path);
        }
    }

    /// Skips a segment below the beginning, which an interrupted trim has left. Open removes it. If it is damaged, it
    /// is a stray file instead.
    fn skip_trimmed(&mut self, segment: Surveyed) {
        if self.damages.iter().any(|damage| damage.file == segment.path) {
            self.strays.push(segment.path);
        }
    }

    fn check_beginning(&mut self, folder: &Path) {
        let first = self.segments.first().map(|segment| segment.first);
        let Some(Mark { begin, end, .. }) = self.mark else {
            self.begin = first.unwrap_or(0);
            self.end = self.begin;
            return;
        };
        self.begin = begin;
        self.end = end;
        let missing = folder.join(file_name(begin));
        match first {
            Some(first) if first > begin => {
                self.damage(&missing, 0, "the segment is missing", Some((begin, first)));
            }
            Some(_) => {}
            None => self.damage(&missing, 0, "all segments are missing", Some((begin, end))),
        }
    }

    fn check_segments(&mut self, disk: &Disk, verify_bytes_max: u64) -> Result<(), SurveyError> {
        let mut budget = verify_bytes_max;
        let mut segments = std::mem::take(&mut self.segments);
        let mut next: Option<(u64, Option<SegmentHeader>)> = None;
        for segment in segments.iter_mut().rev() {
            let following = next.replace((segment.first, segment.header));
            let verified = budget >= segment.bytes;
            match following {
                None => self.check_last(disk, segment)?,
                Some((bound, header)) => {
                    if verified {
                        budget -= segment.bytes;
                        self.check_sealed(disk, segment, bound)?;
                    } else {
                        budget = 0;
                        segment.assume_intact(bound);
                    }
                    self.check_length(segment, header);
                }
            }
        }
        self.segments = segments;
        Ok(())
    }

    fn scan(&mut self, disk: &Disk, segment: &mut Surveyed) -> Result<(Vec<u8>, Scan), DiskError> {
        let bytes = disk.read(&segment.path)?.unwrap_or_default();
        // If no header is intact, the log id is unknown, and every frame counts as damaged.
        let id = self.log_id.unwrap_or(LogId([0; 16]));
        let mut scan = scan(&bytes, &id, segment.first);
        self.lost_events += scan.lost_events;
        segment.index = std::mem::take(&mut scan.index);
        segment.runs = std::mem::take(&mut scan.runs);
        Ok((bytes, scan))
    }

    /// Checks the frames of a sealed segment, which must end where the next segment begins.
    fn check_sealed(&mut self, disk: &Disk, segment: &mut Surveyed, bound: u64) -> Result<(), SurveyError> {
        let (_, scan) = self.scan(disk, segment)?;
        for gap in &scan.gaps {
            let to = gap.resumes.map_or(bound, |location| location.position.min(bound));
            self.damage_at(segment, gap, to);
        }
        let end = segment.end();
        let stopped = scan.gaps.last().is_some_and(|gap| gap.resumes.is_none());
        if end.position < bound && !stopped {
            let why = format!("the segment ends before position {bound}, where the next one begins");
            let lost = Some((end.position, bound));
            self.damage(&segment.path, end.offset, &why, lost);
        }
        if end.position > bound {
            let why = format!("the segment extends beyond position {bound}, where the next one begins");
            self.damage(&segment.path, end.offset, &why, None);
        }
        Ok(())
    }

    fn check_length(&mut self, segment: &Surveyed, next: Option<SegmentHeader>) {
        let recorded = next.map_or(segment.bytes, |next| next.previous_bytes);
        let reported = self.damages.iter().any(|damage| damage.file == segment.path);
        if segment.bytes != recorded && !reported {
            let why =
                format!("the segment has {} bytes, but had {recorded} when it was sealed", segment.bytes);
            let offset = segment.bytes.min(recorded);
            self.damage(&segment.path, offset, &why, None);
        }
    }

    /// Checks the frames of the last segment, which may end with bytes that were never synced.
    fn check_last(&mut self, disk: &Disk, segment: &mut Surveyed) -> Result<(), SurveyError> {
        let (mut bytes, scan) = self.scan(disk, segment)?;
        let marked = self.mark.map_or(0, |mark| mark.end);
        for gap in &scan.gaps {
            let durable = gap.at.offset < scan.synced_bytes || gap.at.position < marked;
            if durable || gap.search_ended {
                let end = marked.max(gap.at.position);
                let to = gap.resumes.map_or(end, |location| location.position);
                self.damage_at(segment, gap, to);
                continue;
            }
            segment.runs.retain(|run| run.to.offset <= gap.at.offset);
            segment.index.retain(|location| location.offset < gap.at.offset);
            // Zeros at the end of the file are preallocated space.
            let tail = &bytes[gap.at.offset as usize..];
            let torn = tail.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
            self.torn = (torn > 0).then(|| TornTail {
                file: segment.path.clone(),
                offset: gap.at.offset,
                bytes: torn,
            });
            bytes.truncate(gap.at.offset as usize);
            segment.bytes = gap.at.offset;
            break;
        }
        let end = segment.end();
        let reported = self.damages.iter().any(|d| d.file == segment.path && d.lost_to >= marked);
        if end.position < marked && !reported {
            let why = format!("the log ends before position {marked}, up to which it was durable");
            self.damage(&segment.path, end.offset, &why, Some((end.position, marked)));
        }
        self.end = end.position.max(marked);
        self.last_bytes = bytes;
        Ok(())
    }

    fn damage_at(&mut self, segment: &Surveyed, gap: &Gap, lost_to: u64) {
        let lost = (lost_to > gap.at.position).then_some((gap.at.position, lost_to));
        let why = if gap.search_ended {
            format!("{}; the search for a later intact frame reached its limit", gap.why)
        } else {
            gap.why.clone()
        };
        self.damage(&segment.path, gap.at.offset, &why, lost);
    }
}

impl Surveyed {
    /// The location after the last intact frame.
    pub(crate) fn end(&self) -> Location {
        let start = Location { position: self.first, offset: SEGMENT_HEADER_BYTES as u64 };
        self.runs.last().map_or(start, |run| run.to)
    }

    /// Assumes that the frames are intact, without a check. They are checked when they are read.
    fn assume_intact(&mut self, bound: u64) {
        let from = self.end();
        let to = Location { position: bound, offset: self.bytes };
        self.runs = vec![Run { from, to }];
    }
}

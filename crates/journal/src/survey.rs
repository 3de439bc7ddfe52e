//! Reads what lies in a log's folder, changes nothing, and tells damage from a torn
//! tail. Both `recover` and `inspect` go by it, so that they never disagree.
//!
//! Damage is what does not read as it should although there is evidence that it was
//! durable: the durable mark, an intact frame further on, or a segment that follows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::LogId;
use crate::disk::{Disk, DiskError};
use crate::durable_mark::{MARK_FILE, Mark, read_marks};
use crate::inspect::{Damage, TornTail};
use crate::scan::{Gap, Run, Scan, scan};
use crate::segment::{
    FORMAT_VERSION, HeaderFault, Place, SEGMENT_HEADER_BYTES, SegmentHeader, file_name, position_of,
};

/// Why a folder could not be looked through.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SurveyError {
    #[error("`{}` has format version {version}, newer than {FORMAT_VERSION}", file.display())]
    NewerVersion { file: PathBuf, version: u32 },
    #[error(transparent)]
    Disk(#[from] DiskError),
}

#[derive(Default)]
pub(crate) struct Survey {
    pub log_id: Option<LogId>,
    pub mark: Option<Mark>,
    /// The log's segments by first position.
    pub segments: Vec<Surveyed>,
    /// Segments that do not belong: of another log, there twice, or below the beginning and damaged.
    pub strays: Vec<PathBuf>,
    pub damages: Vec<Damage>,
    pub torn: Option<TornTail>,
    pub begin: u64,
    /// The position after the last event, lost ones of a missing end included.
    pub end: u64,
    pub lost_events: u64,
    /// The last segment's bytes up to a torn tail.
    pub last_bytes: Vec<u8>,
}

pub(crate) struct Surveyed {
    pub path: PathBuf,
    pub first: u64,
    pub header: Option<SegmentHeader>,
    pub bytes: u64,
    pub runs: Vec<Run>,
    pub index: Vec<Place>,
}

/// Looks through the folder; the sealed segments' frames, newest first, as far as
/// `verify_bytes_max` goes.
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
    let place = |damage: &Damage| (damage.file.clone(), damage.offset);
    survey.damages.sort_by_cached_key(place);
    Ok(survey)
}

/// Every file that has a segment's name or ending, with its header.
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
        // The header knows better than the name, which anybody can change.
        let Some(first) = header.map(|header| header.first).or(position_of(&name)) else {
            survey.strays.push(path);
            continue;
        };
        if name != file_name(first) {
            let why = format!("the file is the segment `{}` by its header", file_name(first));
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

    /// The id most files agree on; among equals the oldest segment's.
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
                self.pass_by(segment);
                continue;
            } else if twice {
                "the segment is there twice"
            } else {
                self.segments.push(segment);
                continue;
            };
            self.damage(&segment.path, 0, why, None);
            self.strays.push(segment.path);
        }
    }

    /// Left by a trim that was cut off, in whatever order the disk forgot them: open removes it.
    fn pass_by(&mut self, segment: Surveyed) {
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
                        segment.trust(bound);
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
        // Without any intact header there is no id, and every frame is damaged.
        let id = self.log_id.unwrap_or(LogId::from_bytes([0; 16]));
        let mut scan = scan(&bytes, &id, segment.first);
        self.lost_events += scan.lost_events;
        segment.index = std::mem::take(&mut scan.index);
        segment.runs = std::mem::take(&mut scan.runs);
        Ok((bytes, scan))
    }

    /// A sealed segment has to be whole: the next one follows on it.
    fn check_sealed(&mut self, disk: &Disk, segment: &mut Surveyed, bound: u64) -> Result<(), SurveyError> {
        let (_, scan) = self.scan(disk, segment)?;
        for gap in &scan.gaps {
            let to = gap.resumes.map_or(bound, |place| place.position.min(bound));
            self.damage_at(segment, gap, to);
        }
        let end = segment.end();
        let stopped = scan.gaps.last().is_some_and(|gap| gap.resumes.is_none());
        if end.position < bound && !stopped {
            let why = format!("the segment ends before position {bound}, where the next begins");
            let lost = Some((end.position, bound));
            self.damage(&segment.path, end.offset, &why, lost);
        }
        if end.position > bound {
            let why = format!("the segment goes beyond position {bound}, where the next begins");
            self.damage(&segment.path, end.offset, &why, None);
        }
        Ok(())
    }

    fn check_length(&mut self, segment: &Surveyed, next: Option<SegmentHeader>) {
        let recorded = next.map_or(segment.bytes, |next| next.previous_bytes);
        let known = self.damages.iter().any(|damage| damage.file == segment.path);
        if segment.bytes != recorded && !known {
            let why =
                format!("the segment has {} bytes, and had {recorded} when it was sealed", segment.bytes);
            let offset = segment.bytes.min(recorded);
            self.damage(&segment.path, offset, &why, None);
        }
    }

    /// The last segment may end in what was never synced.
    fn check_last(&mut self, disk: &Disk, segment: &mut Surveyed) -> Result<(), SurveyError> {
        let (mut bytes, scan) = self.scan(disk, segment)?;
        let marked = self.mark.map_or(0, |mark| mark.end);
        for gap in &scan.gaps {
            let durable = gap.at.offset < scan.synced_bytes || gap.at.position < marked;
            if durable || gap.search_ended {
                let end = marked.max(gap.at.position);
                let to = gap.resumes.map_or(end, |place| place.position);
                self.damage_at(segment, gap, to);
                continue;
            }
            segment.runs.retain(|run| run.to.offset <= gap.at.offset);
            segment.index.retain(|place| place.offset < gap.at.offset);
            // Zeros at the very end are room that was made for more.
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
        let told = self.damages.iter().any(|d| d.file == segment.path && d.lost_to >= marked);
        if end.position < marked && !told {
            let why = format!("the log ends before position {marked}, which was durable");
            self.damage(&segment.path, end.offset, &why, Some((end.position, marked)));
        }
        self.end = end.position.max(marked);
        self.last_bytes = bytes;
        Ok(())
    }

    fn damage_at(&mut self, segment: &Surveyed, gap: &Gap, lost_to: u64) {
        let lost = (lost_to > gap.at.position).then_some((gap.at.position, lost_to));
        let why = if gap.search_ended {
            format!("{}, and too much after it looks like frames", gap.why)
        } else {
            gap.why.clone()
        };
        self.damage(&segment.path, gap.at.offset, &why, lost);
    }
}

impl Surveyed {
    /// Where its intact frames end.
    pub(crate) fn end(&self) -> Place {
        let start = Place { position: self.first, offset: SEGMENT_HEADER_BYTES as u64 };
        self.runs.last().map_or(start, |run| run.to)
    }

    /// Takes the frames for whole without looking; every read looks.
    fn trust(&mut self, bound: u64) {
        let from = self.end();
        let to = Place { position: bound, offset: self.bytes };
        self.runs = vec![Run { from, to }];
    }
}

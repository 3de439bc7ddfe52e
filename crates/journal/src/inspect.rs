//! The result of a survey of every byte, for a person or a program: the damage, the events that a repair would lose,
//! and a torn tail.

use std::path::{Path, PathBuf};

use crate::LogId;
use crate::damage::{Damage, TornTail};
use crate::disk::Disk;
use crate::survey::{Survey, SurveyError, survey};

/// The result of an inspection. If the log is written at the same time, the last group may look torn. If it is
/// trimmed at the same time, the beginning may look damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    pub log_id: Option<LogId>,
    pub begin: u64,
    /// The position after the last event. If the end of the log is lost, its events are included.
    pub end: u64,
    pub segments: usize,
    /// The size of all segments, without a torn tail and preallocated space.
    pub bytes: u64,
    /// The end of the log according to the durable mark, if there is one.
    pub recorded_end: Option<u64>,
    pub clean_stop: bool,
    pub damages: Vec<Damage>,
    pub torn_tail: Option<TornTail>,
    /// The number of events that earlier repairs replaced by lost frames.
    pub lost_events: u64,
}

/// Why the log could not be inspected.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error("there is no log in `{}`", folder.display())]
    NoLog { folder: PathBuf },
    #[error(transparent)]
    Unreadable(#[from] SurveyError),
}

/// Checks every byte of the log in `folder`, and changes nothing.
pub fn inspect(disk: &Disk, folder: &Path) -> Result<Inspection, InspectError> {
    let survey = survey(disk, folder, u64::MAX)?;
    if survey.segments.is_empty() && survey.damages.is_empty() {
        let folder = folder.to_owned();
        return Err(InspectError::NoLog { folder });
    }
    Ok(Inspection::of(&survey))
}

impl Inspection {
    pub(crate) fn of(survey: &Survey) -> Self {
        Self {
            log_id: survey.log_id,
            begin: survey.begin,
            end: survey.end,
            segments: survey.segments.len(),
            bytes: survey.segments.iter().map(|segment| segment.bytes).sum(),
            recorded_end: survey.mark.map(|mark| mark.end),
            clean_stop: survey.mark.is_some_and(|mark| mark.clean_stop),
            damages: survey.damages.clone(),
            torn_tail: survey.torn.clone(),
            lost_events: survey.lost_events,
        }
    }
}

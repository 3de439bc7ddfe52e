//! The survey of every byte as a person or a program may have it: what is damaged,
//! what would be lost, and what is merely torn.

use std::path::{Path, PathBuf};

use crate::LogId;
use crate::disk::{Disk, DiskError};
use crate::survey::{Survey, SurveyError, survey};

/// Something that was durable and is not intact any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub file: PathBuf,
    pub offset: u64,
    pub why: String,
    /// The events at positions `lost_from..lost_to` cannot be read; none if they are equal.
    pub lost_from: u64,
    pub lost_to: u64,
}

/// Bytes behind the last event that were never synced, and so never acknowledged: no damage. Zeros may follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    pub file: PathBuf,
    pub offset: u64,
    pub bytes: u64,
}

/// What an inspection found. Of a log that is being written meanwhile, the last group
/// may look torn; of one that is being trimmed, the beginning may look damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    pub log_id: Option<LogId>,
    pub begin: u64,
    /// The position after the last event, a lost end included.
    pub end: u64,
    pub segments: usize,
    /// Without a torn tail, and the room behind it.
    pub bytes: u64,
    /// How far the durable mark says the log was synced, where there is one.
    pub recorded_end: Option<u64>,
    pub clean_stop: bool,
    pub damages: Vec<Damage>,
    pub torn_tail: Option<TornTail>,
    /// Events that earlier repairs declared lost.
    pub lost_events: u64,
}

/// Why nothing could be inspected.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error("there is no log in `{}`", folder.display())]
    NoLog { folder: PathBuf },
    #[error("`{}` has format version {version}, newer than this program knows", file.display())]
    NewerVersion { file: PathBuf, version: u32 },
    #[error(transparent)]
    Io {
        #[from]
        source: DiskError,
    },
}

impl From<SurveyError> for InspectError {
    fn from(error: SurveyError) -> Self {
        match error {
            SurveyError::NewerVersion { file, version } => Self::NewerVersion { file, version },
            SurveyError::Disk(source) => Self::Io { source },
        }
    }
}

/// Checks every byte of the log in `folder` and changes nothing.
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

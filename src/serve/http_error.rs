//! Errors of the rooms behind the reading API, as refusals; `admit::Refusal` says what they are in HTTP.

use crate::admit::{KeyError, Refusal};
use crate::eventlog::{CopyError, ReadError};
use crate::views::{BatchError, ErasureError, LetterError, RebuildError};

impl From<LetterError> for Refusal {
    fn from(error: LetterError) -> Self {
        match error {
            LetterError::Unknown(_) => Self::NotFound(error.to_string()),
            LetterError::NotOpen { .. }
            | LetterError::TakenBack(_)
            | LetterError::UnderWay(_)
            | LetterError::NoView(_) => Self::Conflict(error.to_string()),
            LetterError::Unsettled => Self::unsettled(),
            LetterError::Refused(error) => Self::Invalid(error),
            LetterError::Log(error) => error.into(),
            LetterError::Store(error) => error.into(),
        }
    }
}

impl From<ErasureError> for Refusal {
    fn from(error: ErasureError) -> Self {
        match error {
            ErasureError::Field { .. } => Self::Parameter { name: "field", reason: error.to_string() },
            ErasureError::Log(error) => error.into(),
            ErasureError::Read(error) => error.into(),
            ErasureError::Erase(_) => Self::LogDamaged(error.to_string()),
            ErasureError::Store(error) => error.into(),
            ErasureError::Stopped => Self::Stopping,
        }
    }
}

impl From<RebuildError> for Refusal {
    fn from(error: RebuildError) -> Self {
        match error {
            RebuildError::HistoryGone(_)
            | RebuildError::RowsGivenUp(_)
            | RebuildError::HistoryLost(_)
            | RebuildError::Opening { .. }
            | RebuildError::Sum(_)
            | RebuildError::SeveralLogs(_)
            | RebuildError::WouldSendAgain(_)
            | RebuildError::Busy(_) => Self::Conflict(error.to_string()),
            RebuildError::Ended(_) => Self::Stopping,
            RebuildError::Batch(BatchError::Log(error)) => error.into(),
            RebuildError::Batch(BatchError::Store(error)) => error.into(),
            RebuildError::Store(error) => error.into(),
        }
    }
}

impl From<KeyError> for Refusal {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Store(error) => error.into(),
            KeyError::Random(_) | KeyError::Unwritable { .. } => Self::Unexpected(error.to_string()),
        }
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::PastEnd { .. } | ReadError::BelowBegin { .. } => {
                Self::Parameter { name: "from", reason: error.to_string() }
            }
            ReadError::Damaged(reason) => Self::LogDamaged(reason),
        }
    }
}

impl From<CopyError> for Refusal {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Damaged(reason) => Self::LogDamaged(reason),
            CopyError::Unkept { .. } => Self::Unexpected(error.to_string()),
            CopyError::Rewritten => Self::Conflict(format!("{error}; try again")),
        }
    }
}

//! Converts the errors of the modules behind the API; `http::ApiError` turns them into responses.

use crate::admission::{KeyError, Refusal};
use crate::delivery::UnsentError;
use crate::http::ApiError;
use crate::live::TargetError;
use crate::log::{AppendError, CopyError, ReadError};
use crate::store::StoreError;
use crate::views::{AcceptError, BatchError, DeadLetterError, ErasureError, ParameterError, RebuildError};

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Refusal::from(error).into()
    }
}

impl From<AppendError> for ApiError {
    fn from(error: AppendError) -> Self {
        Refusal::from(error).into()
    }
}

impl From<DeadLetterError> for ApiError {
    fn from(error: DeadLetterError) -> Self {
        match error {
            DeadLetterError::Unknown(_) => Self::not_found(error.to_string()),
            DeadLetterError::NotOpen { .. }
            | DeadLetterError::CorrectedEvent(_)
            | DeadLetterError::UnderWay(_)
            | DeadLetterError::NoView(_) => Self::conflict(error.to_string()),
            DeadLetterError::DedupBehind => Refusal::dedup_behind().into(),
            DeadLetterError::Refused(error) => error.into(),
            DeadLetterError::Log(error) => error.into(),
            DeadLetterError::Store(error) => error.into(),
        }
    }
}

impl From<UnsentError> for ApiError {
    fn from(error: UnsentError) -> Self {
        match error {
            UnsentError::NotOne(_)
            | UnsentError::NotOpen { .. }
            | UnsentError::NothingLeft(_)
            | UnsentError::NoView(_)
            | UnsentError::NoDestination(_) => Self::conflict(error.to_string()),
            UnsentError::NoNotification(reason) => Self::Parameter { name: "event", reason },
            UnsentError::Event(error) => error.into(),
            UnsentError::Store(error) => error.into(),
        }
    }
}

impl From<ErasureError> for ApiError {
    fn from(error: ErasureError) -> Self {
        match error {
            ErasureError::Field { .. } => Self::Parameter { name: "field", reason: error.to_string() },
            ErasureError::Key { .. } => Refusal::Unexpected(error.to_string()).into(),
            ErasureError::Log(error) => error.into(),
            ErasureError::Read(error) => error.into(),
            ErasureError::Erase(_) => Refusal::LogDamaged(error.to_string()).into(),
            ErasureError::Store(error) => error.into(),
            ErasureError::Stopped => Refusal::Stopping.into(),
        }
    }
}

impl From<RebuildError> for ApiError {
    fn from(error: RebuildError) -> Self {
        match error {
            RebuildError::HistoryGone(_)
            | RebuildError::RowsDeleted(_)
            | RebuildError::HistoryLost(_)
            | RebuildError::Opening { .. }
            | RebuildError::Sum(_)
            | RebuildError::SeveralLogs(_)
            | RebuildError::WouldSendAgain(_)
            | RebuildError::Definition(_)
            | RebuildError::Tables(_)
            | RebuildError::Refused { .. }
            | RebuildError::Busy(_) => Self::conflict(error.to_string()),
            RebuildError::Ended(_) => Refusal::Stopping.into(),
            RebuildError::Batch(BatchError::Log(error)) => error.into(),
            RebuildError::Batch(BatchError::Store(error)) => error.into(),
            RebuildError::Store(error) => error.into(),
        }
    }
}

impl From<AcceptError> for ApiError {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::Rebuilding(_) | AcceptError::OtherRows(_) | AcceptError::Tables { .. } => {
                Self::conflict(error.to_string())
            }
            AcceptError::Busy(_) => Refusal::StoreUnavailable(error.to_string()).into(),
            AcceptError::Ended(_) => Refusal::Stopping.into(),
            AcceptError::Store(error) => error.into(),
        }
    }
}

impl From<TargetError> for ApiError {
    fn from(error: TargetError) -> Self {
        match error {
            TargetError::NoView(_) | TargetError::NoStream(_) => Self::not_found(error.to_string()),
            TargetError::Parameter(error) => error.into(),
        }
    }
}

impl From<ParameterError> for ApiError {
    fn from(error: ParameterError) -> Self {
        let ParameterError { name, reason } = error;
        Self::Parameter { name, reason }
    }
}

impl From<KeyError> for ApiError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Store(error) => error.into(),
            KeyError::NameTaken(_) => Self::conflict(error.to_string()),
            KeyError::Random(_) | KeyError::Unwritable { .. } => {
                Refusal::Unexpected(error.to_string()).into()
            }
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::PastEnd { .. } | ReadError::BelowBegin { .. } => {
                Self::Parameter { name: "from", reason: error.to_string() }
            }
            ReadError::Damaged(reason) => Refusal::LogDamaged(reason).into(),
        }
    }
}

impl From<CopyError> for ApiError {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Damaged(reason) => Refusal::LogDamaged(reason).into(),
            CopyError::Io { .. } => Refusal::Unexpected(error.to_string()).into(),
            CopyError::Rewritten => Self::conflict(format!("{error}; try again")),
        }
    }
}

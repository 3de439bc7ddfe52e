//! Why an event, or the sender of a request, is refused. The reasons know nothing of a transport: each way in puts
//! them into its own answers.

use std::fmt;

use event::{FieldError, FieldErrors};
use serde::Serialize;

use super::Scope;
use crate::log::{AppendError, ReadError};
use crate::store::StoreError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    Unauthorized {
        /// The scope that the request needs.
        scope: Scope,
        fault: KeyFault,
    },
    Forbidden(Denied),
    /// The event is invalid.
    Invalid(FieldErrors),
    /// Some events of a request are invalid; only the first faults are listed.
    InvalidMany {
        events: usize,
        faults: Vec<EventFault>,
    },
    TooLarge {
        what: &'static str,
        bytes_max: usize,
    },
    /// An array holds more events than one append may.
    TooMany {
        events_max: usize,
    },
    NotFound(String),
    Conflict(String),
    /// A queue or the memory for bodies is full.
    Overloaded,
    DiskFull,
    /// The log has failed, and nothing of this request is stored.
    LogFailed,
    /// The log failed during the append: the record may be stored, which only the next start can tell.
    LogFailedDuringAppend,
    /// Bytes of the log that were durable cannot be read any more.
    LogDamaged(String),
    /// The request needs an answer that the store does not have now. The text is a sentence.
    StoreUnavailable(String),
    /// The store answered that it cannot do this, for this reason. It helps only if a person repairs something.
    StoreUnusable(String),
    /// The operating system reported an error that has no other cause here.
    Unexpected(String),
    Stopping,
}

/// The reason why the presented key identifies nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFault {
    Missing,
    Unknown,
    NotText,
    /// A token that no key of this server has signed.
    BadToken,
    /// The token has expired, or the key of which it was made has ended.
    TokenEnded,
}

/// The reason why a known key does not allow a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    Scope(Scope),
    /// The key is for some streams, and this one is not among them.
    Stream(String),
    /// The key is for some streams, and the request is about all of them.
    AllStreams,
    /// The key is for one row of a view, and the request is about something else.
    OtherRow,
    /// The token was made for something else.
    OtherThanToken,
    /// A token was presented to make another one.
    TokenOfToken,
}

/// A fault of one event in a request that holds several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventFault {
    #[serde(flatten)]
    pub at: EventIndex,
    #[serde(flatten)]
    pub error: FieldError,
}

/// Which of several events: counted from 0 in an array, from 1 in lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EventIndex {
    Index(u64),
    Line(u64),
}

impl Refusal {
    /// The deduplicator has not read up to here yet, so it is unknown which events are repeats.
    pub fn dedup_behind() -> Self {
        Self::StoreUnavailable(
            "earlier events are not checked for repeats yet; `/ready` shows the state of `dedup`".to_owned(),
        )
    }

    pub fn id_reused() -> Self {
        Self::Conflict("this id was used for another event".to_owned())
    }

    /// A stable code, documented in docs/API.md.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unauthorized { .. } => "unauthorized",
            Self::Forbidden(_) => "forbidden",
            Self::Invalid(_) | Self::InvalidMany { .. } => "invalid-event",
            Self::TooLarge { .. } | Self::TooMany { .. } => "too-large",
            Self::NotFound(_) => "not-found",
            Self::Conflict(_) => "conflict",
            Self::Overloaded => "overloaded",
            Self::DiskFull => "disk-full",
            Self::LogFailed | Self::LogFailedDuringAppend => "log-failed",
            Self::LogDamaged(_) => "log-damaged",
            Self::StoreUnavailable(_) => "store-unavailable",
            Self::StoreUnusable(_) => "store-unusable",
            Self::Unexpected(_) => "unexpected",
            Self::Stopping => "stopping",
        }
    }

    /// Returns the reason as a sentence for the person who reads the answer.
    pub fn detail(&self) -> String {
        match self {
            Self::Unauthorized { fault, .. } => fault.as_str().to_owned(),
            Self::Forbidden(denied) => denied.to_string(),
            Self::Invalid(error) => error.to_string(),
            Self::InvalidMany { events, .. } => format!("{events} of the events are invalid"),
            Self::TooLarge { what, bytes_max } => format!("{what} is larger than {bytes_max} bytes"),
            Self::TooMany { events_max } => {
                format!(
                    "the array has more than {events_max} events; send them as lines (application/x-ndjson)"
                )
            }
            Self::NotFound(reason)
            | Self::Conflict(reason)
            | Self::StoreUnavailable(reason)
            | Self::Unexpected(reason) => reason.clone(),
            Self::Overloaded => "the server is overloaded; retry after 1 s".to_owned(),
            Self::DiskFull => "the disk is nearly full; events are accepted again once space is free".to_owned(),
            Self::LogFailed => "the log has failed; the server is shutting down".to_owned(),
            Self::LogFailedDuringAppend => {
                "the log failed during the append: the event may be stored or not; the server is shutting down"
                    .to_owned()
            }
            Self::LogDamaged(reason) => format!("{reason}; stop the server and run `millrace repair`"),
            Self::StoreUnusable(reason) => format!("the store cannot do this: {reason}"),
            Self::Stopping => "the server is shutting down".to_owned(),
        }
    }

    /// When to try again; `None` if the same request would be refused again, or might count twice.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Self::Overloaded | Self::LogFailed | Self::StoreUnavailable(_) | Self::Stopping => Some(1),
            Self::DiskFull => Some(10),
            _ => None,
        }
    }
}

impl KeyFault {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "the request has no key",
            Self::Unknown => "the key is unknown, expired or revoked",
            Self::NotText => "the key is not plain text",
            Self::BadToken => "the token is not valid",
            Self::TokenEnded => "the token has expired, or its key was revoked; get a new one",
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scope(scope) => write!(f, "the key does not have the scope `{}`", scope.as_str()),
            Self::Stream(stream) => write!(f, "the key is limited to other streams than `{stream}`"),
            Self::AllStreams => {
                f.write_str("the key is limited to some streams, and this request covers all streams")
            }
            Self::OtherRow => {
                f.write_str("the key is limited to one row by its `viewKey`, and cannot be used for this")
            }
            Self::OtherThanToken => f.write_str("the token was made for something else"),
            Self::TokenOfToken => f.write_str("a token cannot be used to make another one; present a key"),
        }
    }
}

impl From<FieldErrors> for Refusal {
    fn from(errors: FieldErrors) -> Self {
        Self::Invalid(errors)
    }
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::QueueFull => Self::Overloaded,
            AppendError::DiskFull => Self::DiskFull,
            AppendError::TooLarge { bytes_max } => Self::TooLarge { what: "one record", bytes_max },
            AppendError::Failed(_) => Self::LogFailed,
            AppendError::FailedDuringAppend(_) => Self::LogFailedDuringAppend,
            AppendError::Closed => Self::Stopping,
        }
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Damaged(reason) => Self::LogDamaged(reason),
            ReadError::PastEnd { .. } | ReadError::BelowBegin { .. } => Self::NotFound(error.to_string()),
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Closed => Self::Stopping,
            StoreError::Transient(reason) => {
                Self::StoreUnavailable(format!("the store does not answer: {reason}"))
            }
            // Another node was faster.
            StoreError::Claimed { .. } | StoreError::Redefined(_) => {
                Self::Conflict(format!("{error}; try again"))
            }
            StoreError::NoTable(_) | StoreError::Data(_) | StoreError::Blocked(_) => {
                Self::StoreUnusable(error.to_string())
            }
        }
    }
}

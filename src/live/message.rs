//! The messages that a subscriber gets.

use std::sync::Arc;

use serde_json::json;

/// One message of a subscription. The content is JSON; `place` is the text of a cursor, from which a subscriber that
/// comes again continues.
#[derive(Clone, Debug)]
pub enum Message {
    /// A present value, an event or a row.
    Change { place: Arc<str>, content: Arc<str> },
    /// The subscriber has to start again, because its earlier messages are not true any more.
    Reset { place: Arc<str>, content: Arc<str> },
    /// The subscriber was too slow. A subscription from `place` reads what it has missed.
    Missed { place: Arc<str>, content: Arc<str> },
    /// Nothing has changed up to this place.
    Place { place: Arc<str> },
}

/// Why a subscriber has to start again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetReason {
    /// The server has another log than the subscriber has read.
    OtherLog,
    /// A rebuild has replaced rows, or an erasure has removed them.
    RowsReplaced,
    /// Old events or rows that the subscriber has not seen were deleted.
    Deleted,
}

/// The stream or view of a subscription, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    Stream(String),
    View(String),
}

impl About {
    fn content(&self) -> serde_json::Value {
        match self {
            Self::Stream(stream) => json!({ "stream": stream }),
            Self::View(view) => json!({ "view": view }),
        }
    }
}

impl ResetReason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OtherLog => "other-log",
            Self::RowsReplaced => "rows-replaced",
            Self::Deleted => "deleted",
        }
    }
}

impl Message {
    pub fn reset(about: &About, reason: ResetReason, place: String) -> Self {
        let mut content = about.content();
        content["reason"] = reason.as_str().into();
        Self::Reset { place: place.into(), content: content.to_string().into() }
    }

    /// `place` is the last one that the subscriber knows, and `positions` the number that lies in between.
    pub fn missed(about: &About, positions: u64, place: String) -> Self {
        let mut content = about.content();
        content["positions"] = positions.into();
        content["after"] = place.as_str().into();
        Self::Missed { place: place.into(), content: content.to_string().into() }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Change { .. } => "change",
            Self::Reset { .. } => "reset",
            Self::Missed { .. } => "missed",
            Self::Place { .. } => "place",
        }
    }

    pub fn place(&self) -> &Arc<str> {
        match self {
            Self::Change { place, .. }
            | Self::Reset { place, .. }
            | Self::Missed { place, .. }
            | Self::Place { place } => place,
        }
    }

    /// Returns the content as JSON; `None` if the message is only about the place.
    pub fn content(&self) -> Option<&Arc<str>> {
        match self {
            Self::Change { content, .. } | Self::Reset { content, .. } | Self::Missed { content, .. } => {
                Some(content)
            }
            Self::Place { .. } => None,
        }
    }
}

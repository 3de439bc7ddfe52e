//! `[destination.NAME]` with `kind = "log"`: notifications are written to the program log, which needs no other service.

use serde::{Deserialize, Serialize};

use super::notice::Notice;
use super::outcome::Outcome;
use super::retry::RetrySchedule;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSection {
    pub retry: Option<RetrySchedule>,
}

/// A notification as it is stored until it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    r#type: String,
    recipient: String,
    message: String,
}

impl LogLine {
    pub fn of(notice: &Notice<'_>) -> Self {
        Self {
            r#type: notice.event_type.to_owned(),
            recipient: notice.recipient.to_owned(),
            message: notice.message.to_owned(),
        }
    }

    pub fn write(&self, id: &str) -> Outcome {
        let Self { r#type, recipient, message } = self;
        tracing::info!(id, r#type, recipient, text = message, "notification");
        Outcome::sent(None, "")
    }
}

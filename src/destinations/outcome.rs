//! The outcome of one attempt to send a notification.

use std::time::Duration;

use event::limits::ANSWER_KEPT_BYTES_MAX;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub verdict: Verdict,
    /// The status of the answer, such as 200 of HTTP or 250 of SMTP; `None` if there was no answer.
    pub status: Option<u16>,
    /// The beginning of the answer.
    pub answer: String,
    /// Why the attempt failed.
    pub error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Sent,
    /// Another attempt may succeed. `retry_after` is the delay that the receiver asks for.
    Failed {
        retry_after: Option<Duration>,
    },
    /// The receiver will never take this notification.
    Refused,
    /// The receiver wants nothing more from this destination.
    Gone,
}

impl Outcome {
    pub fn sent(status: Option<u16>, answer: &str) -> Self {
        Self { verdict: Verdict::Sent, status, answer: beginning(answer), error: None }
    }

    /// An attempt without an answer.
    pub fn failed(error: impl Into<String>) -> Self {
        Self::answered(Verdict::Failed { retry_after: None }, None, "", error)
    }

    pub fn answered(verdict: Verdict, status: Option<u16>, answer: &str, error: impl Into<String>) -> Self {
        Self { verdict, status, answer: beginning(answer), error: Some(beginning(&error.into())) }
    }
}

/// Returns the part of a text that is kept.
fn beginning(text: &str) -> String {
    let mut end = text.len().min(ANSWER_KEPT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    // A database does not take the character NUL.
    text[..end].replace('\0', "\u{fffd}")
}

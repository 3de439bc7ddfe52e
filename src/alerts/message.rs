//! An alert as it is sent.

use event::Millis;
use serde_json::json;

use crate::destinations::{Destination, Notice, Outcome};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertMessage {
    /// The same at each attempt, also after a restart.
    pub id: String,
    /// `raised`, `over` or `test`.
    pub phase: &'static str,
    pub condition: String,
    pub text: String,
    /// When the condition began.
    pub since: Millis,
    /// When it began or ended.
    pub created: Millis,
}

impl AlertMessage {
    pub fn test(now: Millis) -> Self {
        Self {
            id: format!("alert-test-{}", now.0),
            phase: "test",
            condition: "test".to_owned(),
            text: "This is a test: alerts arrive here.".to_owned(),
            since: now,
            created: now,
        }
    }

    /// Lets a destination make its content. `then` gets the content while the notice exists.
    fn notice<T>(&self, recipient: &str, then: impl FnOnce(&Notice<'_>) -> T) -> T {
        let Self { id, phase, condition, text, since, created } = self;
        let since = since.to_text();
        let payload =
            json!({ "condition": condition, "phase": phase, "since": since, "message": text }).to_string();
        then(&Notice {
            id,
            event_id: id,
            event_type: &format!("millrace.alert.{phase}"),
            recipient,
            message: text,
            view: "",
            created: *created,
            payload: &payload,
            event: &payload,
        })
    }

    /// Fails with the reason if the destination cannot send such a message.
    pub fn check(&self, destination: &Destination, recipient: &str) -> Result<(), String> {
        self.notice(recipient, |notice| destination.render(notice)).map(drop)
    }

    /// Makes one attempt to send it.
    pub async fn send(&self, destination: &Destination, recipient: &str) -> Outcome {
        match self.notice(recipient, |notice| destination.render(notice)) {
            Ok(content) => destination.send(&self.id, self.created, &content).await,
            Err(reason) => Outcome::failed(reason),
        }
    }
}

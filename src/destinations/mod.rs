//! Destinations: configured ways out. A file per kind has its settings, what a notification becomes there, and how it is
//! sent. This module knows neither the store nor when to send.

mod address_policy;
mod at_once;
mod email;
mod email_sender;
mod log;
mod mail;
mod notice;
mod outcome;
mod retry;
mod secret_setting;
mod section;
mod signature;
mod template;
mod webhook;
mod webhook_sender;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use event::Millis;
use event::limits::ATTEMPT_DURATION_DEFAULT;
use serde::{Deserialize, Serialize};

use email::Email;
use log::LogLine;
use mail::Mail;
use webhook::{Webhook, WebhookContent};

pub use notice::Notice;
pub use outcome::{Outcome, Verdict};
pub use retry::RetrySchedule;
pub use section::DestinationSection;

/// The destination that writes to the program log. It always exists.
pub const LOG_DESTINATION: &str = "log";

/// A destination that is ready to be sent to.
#[derive(Clone)]
pub struct Destination {
    pub name: String,
    kind: DestinationKind,
    pub retry: RetrySchedule,
    /// Attempts that run at the same time.
    pub at_once: usize,
}

/// The kinds of destinations.
#[derive(Clone)]
enum DestinationKind {
    Log,
    Webhook(Webhook),
    Email(Email),
}

/// A notification in the form in which it is sent to one destination. It is stored when the notification is queued, so
/// that each attempt sends the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Content {
    Log(LogLine),
    Webhook(WebhookContent),
    Email(Mail),
}

impl Content {
    /// Returns the host of a destination whose URL depends on the event.
    pub fn host(&self) -> Option<String> {
        match self {
            Self::Webhook(content) => Webhook::host(content),
            Self::Log(_) | Self::Email(_) => None,
        }
    }

    /// Returns stored content as readers see it: without the path and the query of a URL, which may be secret.
    pub fn shown(stored: &str) -> String {
        let shown = match serde_json::from_str(stored) {
            Ok(Self::Webhook(content)) => serde_json::to_string(&Self::Webhook(content.without_path())).ok(),
            Ok(Self::Log(_) | Self::Email(_)) | Err(_) => None,
        };
        shown.unwrap_or_else(|| stored.to_owned())
    }
}

impl Destination {
    /// Returns the destination that writes to the program log.
    pub fn log(retry: RetrySchedule) -> Self {
        let at_once = at_once::AtOnce::default().0;
        Self { name: LOG_DESTINATION.to_owned(), kind: DestinationKind::Log, retry, at_once }
    }

    /// Fails with the reason if the notification cannot be sent there.
    pub fn render(&self, notice: &Notice<'_>) -> Result<Content, String> {
        let content = match &self.kind {
            DestinationKind::Log => Ok(Content::Log(LogLine::of(notice))),
            DestinationKind::Webhook(webhook) => webhook.render(notice).map(Content::Webhook),
            DestinationKind::Email(email) => email.render(notice).map(Content::Email),
        };
        content.map_err(|reason| format!("destination `{}`, {reason}", self.name))
    }

    /// Makes one attempt.
    pub async fn send(&self, id: &str, created: Millis, content: &Content) -> Outcome {
        match (&self.kind, content) {
            (DestinationKind::Log, Content::Log(line)) => line.write(id),
            (DestinationKind::Webhook(webhook), Content::Webhook(content)) => webhook.send(id, content).await,
            (DestinationKind::Email(email), Content::Email(mail)) => email.send(id, created, mail).await,
            (DestinationKind::Log | DestinationKind::Webhook(_) | DestinationKind::Email(_), _) => {
                Outcome::failed(format!(
                    "the notification was queued when destination `{}` had another kind",
                    self.name
                ))
            }
        }
    }

    /// Returns how long an attempt can take.
    pub fn attempt_within(&self) -> Duration {
        match &self.kind {
            DestinationKind::Log => ATTEMPT_DURATION_DEFAULT,
            DestinationKind::Webhook(webhook) => webhook.attempt_within(),
            DestinationKind::Email(email) => email.attempt_within(),
        }
    }

    /// Returns whether stored notifications can have a host of their own, also from an earlier configuration.
    pub fn may_have_hosts(&self) -> bool {
        matches!(self.kind, DestinationKind::Webhook(_))
    }

    /// Returns whether the host depends on the event.
    pub fn has_many_hosts(&self) -> bool {
        matches!(&self.kind, DestinationKind::Webhook(webhook) if webhook.has_many_hosts())
    }

    /// Returns the name of the kind in the configuration and in API responses.
    pub fn kind_name(&self) -> &'static str {
        match &self.kind {
            DestinationKind::Log => "log",
            DestinationKind::Webhook(_) => "webhook",
            DestinationKind::Email(_) => "email",
        }
    }

    /// Returns where notifications go, without what may be a secret.
    pub fn shown(&self) -> String {
        match &self.kind {
            DestinationKind::Log => "the program log".to_owned(),
            DestinationKind::Webhook(webhook) => webhook.shown(),
            DestinationKind::Email(email) => email.shown(),
        }
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple(self.kind_name()).field(&self.name).field(&self.shown()).finish()
    }
}

/// The destinations of a view, in the order of the configuration.
pub type Destinations = Vec<Arc<Destination>>;

/// All declared destinations by name; one with errors in its settings has no value.
pub type DeclaredDestinations = BTreeMap<String, Option<Arc<Destination>>>;

//! `[destination.NAME]` of the configuration. Each kind declares its settings in its own file.

use event::SettingErrors;
use serde::Deserialize;

use super::at_once::AtOnce;
use super::email::EmailSection;
use super::log::LogSection;
use super::retry::RetrySchedule;
use super::webhook::WebhookSection;
use super::{Destination, DestinationKind};

/// The section as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DestinationSection {
    Log(LogSection),
    Webhook(WebhookSection),
    Email(EmailSection),
}

impl DestinationSection {
    /// Builds destination `name`. `retry` applies to a destination without its own schedule.
    pub fn build(
        &self,
        name: &str,
        retry: &RetrySchedule,
        errors: &mut SettingErrors,
    ) -> Option<Destination> {
        let (kind, own_retry, at_once) = match self {
            Self::Log(section) => (DestinationKind::Log, &section.retry, AtOnce::default()),
            Self::Webhook(section) => {
                let webhook = section.build(errors)?;
                (DestinationKind::Webhook(webhook), &section.retry, section.at_once.unwrap_or_default())
            }
            Self::Email(section) => {
                (DestinationKind::Email(section.build(errors)?), &section.retry, section.at_once())
            }
        };
        let retry = own_retry.as_ref().unwrap_or(retry).clone();
        Some(Destination { name: name.to_owned(), kind, retry, at_once: at_once.0 })
    }
}

//! `[alert]` of the configuration.

use std::sync::Arc;
use std::time::Duration;

use event::limits::ALERT_LAG_DEFAULT;
use event::{Millis, SettingErrors, WrittenDuration};
use serde::Deserialize;

use super::message::AlertMessage;
use crate::destinations::{DeclaredDestinations, Destination, Outcome};

/// The section as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertSection {
    to: String,
    recipient: Option<String>,
    lag: Option<WrittenDuration>,
}

/// The destination of alerts, and the lag that a view may have.
#[derive(Clone, Debug)]
pub struct AlertSettings {
    pub destination: Arc<Destination>,
    /// The address, for a destination of kind `email`.
    recipient: String,
    pub lag_max: Duration,
}

impl AlertSection {
    pub fn build(
        &self,
        destinations: &DeclaredDestinations,
        errors: &mut SettingErrors,
    ) -> Option<AlertSettings> {
        let lag_max = self.lag.map_or(ALERT_LAG_DEFAULT, |lag| lag.0);
        if lag_max.is_zero() {
            errors.add(&["lag"], "has `lag = \"0s\"`: a view is always a moment behind");
        }
        let Some(destination) = destinations.get(&self.to) else {
            let known: Vec<String> = destinations.keys().map(|name| format!("`{name}`")).collect();
            let known = known.join(", ");
            errors.add(
                &["to"],
                format!("sends to destination `{}`, which is not declared (destinations: {known})", self.to),
            );
            return None;
        };
        // A destination with errors is reported in its own section.
        let destination = Arc::clone(destination.as_ref()?);
        let recipient = self.recipient.clone().unwrap_or_default();
        if destination.kind_name() == "email" && self.recipient.is_none() {
            errors.add(&["to"], format!("sends mail by `{}`, so it needs a `recipient`", self.to));
        } else {
            // A template may depend on the phase.
            let check = |phase| {
                AlertMessage { phase, ..AlertMessage::test(Millis(0)) }.check(&destination, &recipient)
            };
            let checked = ["raised", "over", "test"].into_iter().try_for_each(check);
            errors.take(&["to"], checked.map_err(|reason| format!("cannot be sent: {reason}")));
        }
        Some(AlertSettings { destination, recipient, lag_max })
    }
}

impl AlertSettings {
    /// Makes one attempt to send an alert.
    pub async fn send(&self, message: &AlertMessage) -> Outcome {
        message.send(&self.destination, &self.recipient).await
    }
}

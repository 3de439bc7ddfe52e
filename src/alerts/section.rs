//! `[alert]` of the configuration, and how an alert is sent.

use std::sync::Arc;
use std::time::Duration;

use event::limits::ALERT_LAG_DEFAULT;
use event::{Millis, SettingErrors, WrittenDuration};
use serde::Deserialize;
use serde_json::json;

use crate::destinations::{DeclaredDestinations, Destination, Notice, Outcome};

/// The section as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertSection {
    to: String,
    recipient: Option<String>,
    lag: Option<WrittenDuration>,
}

/// Where alerts go, and when a view is behind for too long.
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
        let settings = AlertSettings {
            // One with errors of its own is reported there.
            destination: Arc::clone(destination.as_ref()?),
            recipient: self.recipient.clone().unwrap_or_default(),
            lag_max,
        };
        if settings.destination.kind_name() == "email" && self.recipient.is_none() {
            errors.add(&["to"], format!("sends mail by `{}`, so it needs a `recipient`", self.to));
        } else {
            let example = settings.notice("alert", "example", "{}", "Example.", Millis(0));
            let rendered = settings.destination.render(&example).map(drop);
            errors.take(&["to"], rendered.map_err(|reason| format!("cannot be sent: {reason}")));
        }
        Some(settings)
    }
}

impl AlertSettings {
    fn notice<'a>(
        &'a self,
        id: &'a str,
        event_type: &'a str,
        payload: &'a str,
        message: &'a str,
        created: Millis,
    ) -> Notice<'a> {
        let recipient = self.recipient.as_str();
        let (event_id, view, event) = (id, "", payload);
        Notice { id, event_id, event_type, recipient, message, view, created, payload, event }
    }

    /// Makes one attempt to send an alert. `phase` is `raised`, `over` or `test`.
    pub async fn send(
        &self,
        id: &str,
        phase: &str,
        condition: &str,
        message: &str,
        created: Millis,
    ) -> Outcome {
        let payload = json!({
            "condition": condition,
            "phase": phase,
            "since": created.to_text(),
            "message": message,
        });
        let event_type = format!("millrace.alert.{phase}");
        let payload = payload.to_string();
        match self.destination.render(&self.notice(id, &event_type, &payload, message, created)) {
            Ok(content) => self.destination.send(id, created, &content).await,
            Err(reason) => Outcome::failed(reason),
        }
    }
}

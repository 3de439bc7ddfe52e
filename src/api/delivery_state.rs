//! Where the deliveries of a notification are now, with every attempt.

use serde::Serialize;
use serde_json::value::RawValue;

use super::Api;
use crate::http::ApiError;
use crate::store::{DeliveryState, StoredAttempt, StoredDelivery};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryBody {
    destination: String,
    state: &'static str,
    attempts: i64,
    /// When the next attempt is due.
    next_attempt_at: Option<String>,
    /// An attempt is being made now.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    running: bool,
    made: Vec<AttemptBody>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AttemptBody {
    attempt: i64,
    at: String,
    millis: i64,
    outcome: String,
    status: Option<i64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    answer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl DeliveryBody {
    /// Returns the deliveries of a notification.
    pub async fn of(api: &Api, view: &str, notification: &str) -> Result<Vec<Self>, ApiError> {
        let deliveries = api.store.deliveries_of(view, notification).await?;
        let attempts = api.store.attempts_of(view, notification).await?;
        Ok(deliveries.into_iter().map(|delivery| Self::with(delivery, &attempts)).collect())
    }

    pub fn destination(&self) -> &str {
        &self.destination
    }

    fn with(delivery: StoredDelivery, attempts: &[StoredAttempt]) -> Self {
        let StoredDelivery { destination, state, due, attempts: number, is_leased, .. } = delivery;
        let waits = state == DeliveryState::Waiting && !is_leased;
        let of_this = attempts.iter().filter(|attempt| attempt.destination == destination);
        Self {
            state: state.as_str(),
            attempts: number,
            next_attempt_at: waits.then(|| due.to_text()),
            running: is_leased && state == DeliveryState::Waiting,
            made: of_this.map(AttemptBody::from).collect(),
            destination,
        }
    }
}

impl From<&StoredAttempt> for AttemptBody {
    fn from(attempt: &StoredAttempt) -> Self {
        Self {
            attempt: attempt.attempt,
            at: attempt.begun.to_text(),
            millis: attempt.duration_millis,
            outcome: attempt.outcome.clone(),
            status: attempt.status,
            answer: attempt.answer.clone(),
            error: attempt.error.clone(),
        }
    }
}

/// A notification of an event, in the event's receipt.
#[derive(Serialize)]
pub struct NotificationReceipt {
    id: String,
    view: String,
    deliveries: Vec<DeliveryBody>,
}

impl NotificationReceipt {
    /// Returns the notifications of the event at `position`.
    pub async fn of(api: &Api, position: u64) -> Result<Vec<Self>, ApiError> {
        let mut found: Vec<Self> = Vec::new();
        for delivery in api.store.deliveries_at(api.log.id(), position).await? {
            if !found.iter().any(|one| one.id == delivery.notification && one.view == delivery.view) {
                let deliveries = DeliveryBody::of(api, &delivery.view, &delivery.notification).await?;
                found.push(Self { id: delivery.notification, view: delivery.view, deliveries });
            }
        }
        Ok(found)
    }
}

/// Returns JSON text for an answer.
pub fn raw(text: String) -> Option<Box<RawValue>> {
    RawValue::from_string(text).ok()
}

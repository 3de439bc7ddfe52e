//! A notification in the form in which readers get it.

use serde::Serialize;
use serde_json::value::RawValue;

use super::Notification;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NotificationBody {
    id: String,
    event_id: String,
    event_type: String,
    status: String,
    channel: String,
    recipient: String,
    message: String,
    attempts: i64,
    last_attempt_at: Option<String>,
    next_attempt_at: Option<String>,
    created_at: String,
    updated_at: String,
    /// The payload's own text, digit by digit.
    payload: Option<Box<RawValue>>,
}

impl From<Notification> for NotificationBody {
    fn from(notification: Notification) -> Self {
        Self {
            id: notification.id,
            event_id: notification.event_id,
            event_type: notification.event_type,
            status: notification.status,
            channel: notification.channel,
            recipient: notification.recipient,
            message: notification.message,
            attempts: notification.attempts,
            last_attempt_at: notification.last_attempt,
            next_attempt_at: notification.next_attempt,
            created_at: notification.created,
            updated_at: notification.updated,
            payload: RawValue::from_string(notification.payload).ok(),
        }
    }
}

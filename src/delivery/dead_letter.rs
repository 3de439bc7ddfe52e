//! Decisions of a person about notifications that could not be sent: send again, send edited, or drop.

use std::collections::BTreeMap;

use event::{EventId, FieldErrors, Fields, LogId, Millis};

use super::Delivery;
use crate::store::{
    DeadLetter, DeadLetterStatus, DeliveryDecision, DeliveryKey, DeliveryState, NotificationChange,
    NotificationChanges, QueuedNotification, StoreError,
};
use crate::views::Running;

#[derive(Debug, thiserror::Error)]
pub enum UnsentError {
    #[error("dead letter `{0}` is not about a notification")]
    NotOne(EventId),
    #[error("dead letter `{id}` is {status}, not open")]
    NotOpen { id: EventId, status: &'static str },
    #[error("nothing is left to send for dead letter `{0}`; drop it")]
    NothingLeft(EventId),
    #[error("view `{0}` is not running on this server; add it to the configuration, or drop the dead letter")]
    NoView(String),
    #[error("destination `{0}` is not configured; add it to the configuration, or drop the dead letter")]
    NoDestination(String),
    #[error("{0}")]
    Event(#[from] FieldErrors),
    #[error("the notification of the edited event cannot be made: {0}")]
    NoNotification(String),
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// The notification of an edited event, before it is queued.
pub struct Edited {
    pub changes: NotificationChanges,
    pub id: String,
    /// What would be sent.
    pub content: String,
}

impl Delivery {
    /// Lets a dead letter's notification be sent again, with all its retries.
    pub async fn send_again(&self, letter: &DeadLetter) -> Result<(), UnsentError> {
        let key = self.open(letter)?;
        if !self.destinations.contains_key(&key.destination) {
            return Err(UnsentError::NoDestination(key.destination));
        }
        if letter.status == DeadLetterStatus::Retrying {
            return Ok(());
        }
        self.decide_about(letter, key, DeliveryState::Waiting, None, None).await
    }

    /// Drops a dead letter's notification for this reason: it is never sent.
    pub async fn drop_unsent(&self, letter: &DeadLetter, reason: Option<&str>) -> Result<(), UnsentError> {
        let key = self.undecided(letter)?;
        self.decide_about(letter, key, DeliveryState::Dropped, reason.map(str::to_owned), None).await
    }

    /// Makes the notification of an edited event. It has an id of its own that names the old one, because receivers ignore
    /// an id that they have seen.
    pub fn edit(
        &self,
        letter: &DeadLetter,
        event: &str,
        views: &BTreeMap<String, Running>,
        fields: &Fields,
    ) -> Result<Edited, UnsentError> {
        let key = self.undecided(letter)?;
        let view = views.get(&key.view).and_then(|running| running.view.notifications());
        let notifications = view.ok_or_else(|| UnsentError::NoView(key.view.clone()))?;
        fields.check(event, false)?;
        let id = format!("{}-edit-{}", key.notification, letter.attempts);
        let made = notifications.edited(&key.view, fields, event, (&id, letter.position, Millis::now()));
        let mut queued: QueuedNotification = made.map_err(UnsentError::NoNotification)?;
        queued.deliveries.retain(|delivery| delivery.destination == key.destination);
        let Some(delivery) = queued.deliveries.first() else {
            return Err(UnsentError::NoDestination(key.destination));
        };
        let content = delivery.content.clone();
        let changes = NotificationChanges {
            tables: notifications.tables().clone(),
            changes: vec![NotificationChange::Queue(queued)],
        };
        Ok(Edited { changes, id, content })
    }

    /// Queues the notification of an edited event, and drops the original.
    pub async fn send_edited(&self, letter: &DeadLetter, edited: Edited) -> Result<(), UnsentError> {
        let key = self.undecided(letter)?;
        let note = Some(format!("edited, and sent as {}", edited.id));
        let queued = DeliveryKey { notification: edited.id, ..key.clone() };
        let replacement = Some((letter.log, edited.changes));
        self.decide_about(letter, key, DeliveryState::Dropped, note, replacement).await?;
        self.note_queued(&queued);
        Ok(())
    }

    async fn decide_about(
        &self,
        letter: &DeadLetter,
        key: DeliveryKey,
        to: DeliveryState,
        note: Option<String>,
        replacement: Option<(LogId, NotificationChanges)>,
    ) -> Result<(), UnsentError> {
        let id = letter.id;
        let decision = DeliveryDecision { letter: id, key, to, note, table: None, replacement };
        if self.decide(decision).await? {
            return Ok(());
        }
        let now = self.store.dead_letter(id).await?.filter(|now| now.status != DeadLetterStatus::Open);
        Err(now.map_or(UnsentError::NothingLeft(id), |now| UnsentError::NotOpen {
            id,
            status: now.status.as_str(),
        }))
    }

    /// Returns the delivery of a letter that waits for a decision.
    fn open(&self, letter: &DeadLetter) -> Result<DeliveryKey, UnsentError> {
        let (Some(notification), Some(destination)) = (&letter.notification, &letter.destination) else {
            return Err(UnsentError::NotOne(letter.id));
        };
        if !matches!(letter.status, DeadLetterStatus::Open | DeadLetterStatus::Retrying) {
            return Err(UnsentError::NotOpen { id: letter.id, status: letter.status.as_str() });
        }
        Ok(DeliveryKey {
            view: letter.view.clone(),
            notification: notification.clone(),
            destination: destination.clone(),
        })
    }

    /// Returns the delivery of a letter that is not being sent again.
    fn undecided(&self, letter: &DeadLetter) -> Result<DeliveryKey, UnsentError> {
        if letter.status == DeadLetterStatus::Retrying {
            return Err(UnsentError::NotOpen { id: letter.id, status: letter.status.as_str() });
        }
        self.open(letter)
    }
}

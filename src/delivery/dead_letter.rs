//! Decisions of a person about notifications that could not be sent: send again, send edited, or drop.

use std::collections::BTreeMap;

use event::{EventId, FieldErrors, Fields, Millis};

use super::Delivery;
use crate::store::{
    DeadLetter, DeadLetterStatus, DeliveryKey, DeliveryState, NotificationChange, NotificationChanges,
    QueuedNotification, Store, StoreError,
};
use crate::views::Running;

#[derive(Debug, thiserror::Error)]
pub enum UnsentError {
    #[error("dead letter `{0}` is not about a notification")]
    NotOne(EventId),
    #[error("dead letter `{id}` is {status}, not open")]
    NotOpen { id: EventId, status: &'static str },
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
        self.mark(letter, DeadLetterStatus::Retrying).await?;
        // After a crash between the two steps, the letter is `retrying` and can be sent again.
        self.decide(&key, DeliveryState::Waiting).await?;
        Ok(())
    }

    /// Drops a dead letter's notification for this reason: it is never sent.
    pub async fn drop_unsent(&self, letter: &DeadLetter, reason: Option<&str>) -> Result<(), UnsentError> {
        let key = self.undecided(letter)?;
        self.mark(letter, DeadLetterStatus::Dropped).await?;
        self.decide(&key, DeliveryState::Dropped).await?;
        if let Some(reason) = reason {
            self.store.note_dead_letter(letter.id, reason).await?;
        }
        Ok(())
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
        let key = self.open(letter)?;
        // In this order: a crash in between leaves the letter open, and the same edit is queued only once.
        self.store.queue_notification(key.view.clone(), letter.log, edited.changes).await?;
        self.note_queued(&DeliveryKey { notification: edited.id.clone(), ..key });
        self.drop_unsent(letter, Some(&format!("edited, and sent as {}", edited.id))).await
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

    async fn mark(&self, letter: &DeadLetter, status: DeadLetterStatus) -> Result<(), UnsentError> {
        let store: &Store = &self.store;
        if letter.status == DeadLetterStatus::Retrying && status == DeadLetterStatus::Retrying {
            return Ok(());
        }
        if store.move_dead_letter(letter.id, letter.status, status, Millis::now()).await? {
            return Ok(());
        }
        Err(UnsentError::NotOpen { id: letter.id, status: "decided by somebody else" })
    }
}

//! The kind `notifications`: one row for each notification. The plan that moves the view's position past an event
//! also queues its notification, with a delivery for each destination. From then on only delivery changes the row. The
//! one exception: if the event is corrected before an attempt has begun, the view deletes the row.

mod body;
mod definition;
mod fold;
mod query;
mod section;

use std::sync::Arc;

use event::Filter;
use event::limits::{KEY_CHARS_MAX, NOTIFICATIONS_TOGETHER_MAX};

use crate::destinations::Destinations;
use crate::store::{Column, ColumnKind, NotificationTables, Table};

pub use body::NotificationBody;
pub use definition::NotificationsDefinition;
pub use query::Notification;
pub use section::NotificationsSection;

#[derive(Clone, Debug)]
pub struct Notifications {
    tables: NotificationTables,
    reads: NotificationFields,
    destinations: Destinations,
}

/// The parts of an event that make a notification. Fields are indexes into the stream's fields.
#[derive(Clone, Debug)]
pub struct NotificationFields {
    pub to: Recipient,
    pub event_type: usize,
    /// `None` means the whole event.
    pub payload: Option<usize>,
    pub message: Vec<MessagePart>,
    /// The events that notify somebody.
    pub filter: Filter,
}

/// Who gets the notifications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipient {
    Field(usize),
    /// The same one for all events.
    Fixed(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessagePart {
    Words(String),
    Field(usize),
}

const WORD: ColumnKind = ColumnKind::Text { chars_max: KEY_CHARS_MAX };

/// The columns in their order. `?` marks those that may be null.
const COLUMNS: &[(&str, ColumnKind)] = &[
    ("id", WORD),
    ("event_id", WORD),
    ("event_type", WORD),
    ("payload", ColumnKind::Json),
    ("status", WORD),
    ("attempt_count", ColumnKind::Integer),
    ("last_attempt_timestamp?", ColumnKind::Time),
    ("created_at", ColumnKind::Time),
    ("updated_at", ColumnKind::Time),
    ("recipient", WORD),
    ("message", ColumnKind::LongText),
    ("channel", WORD),
    ("next_attempt_at?", ColumnKind::Time),
];
/// The id of a notification is this and the id of its event.
const ID_PREFIX: &str = "notif-";
const EVENT_ID: usize = 1;
const STATUS: usize = 4;

impl Notifications {
    pub fn new(table: &str, reads: NotificationFields, destinations: Destinations) -> Self {
        let table = Table { unique: Some(EVENT_ID), ..Table::new(table, 1, COLUMNS) };
        let columns: Vec<Column> = [0, STATUS].map(|index| table.columns[index].clone()).into();
        let queued = Table { columns, unique: None, ..table.clone() };
        let tables = NotificationTables { whole: Arc::new(table), queued: Arc::new(queued) };
        Self { tables, reads, destinations }
    }

    pub fn table(&self) -> &Arc<Table> {
        &self.tables.whole
    }

    pub fn tables(&self) -> &NotificationTables {
        &self.tables
    }

    pub fn destinations(&self) -> &Destinations {
        &self.destinations
    }

    /// Returns how many events may be folded together: with their contents, notifications are much larger than events.
    pub fn events_together(&self) -> usize {
        NOTIFICATIONS_TOGETHER_MAX / self.destinations.len().max(1)
    }

    /// Returns the names of the destinations as the table shows them.
    fn channel(&self) -> String {
        let names: Vec<&str> =
            self.destinations.iter().map(|destination| destination.name.as_str()).collect();
        names.join(",")
    }

    /// Returns the id of an event's notification.
    pub fn id_of(event: &impl std::fmt::Display) -> String {
        format!("{ID_PREFIX}{event}")
    }
}

//! The kind `notifications`: one row for each notification. The plan that moves the view's position past an event
//! also queues its notification. From then on only delivery changes the row. The one exception: if the event is
//! corrected before a delivery was attempted, the view deletes the row.

mod body;
mod definition;
mod fold;
mod query;
mod section;

use std::sync::Arc;

use event::limits::KEY_CHARS_MAX;

use crate::store::{Column, ColumnKind, Table};

pub use body::NotificationBody;
pub use definition::NotificationsDefinition;
pub use query::{Notification, NotificationStatus};
pub use section::NotificationsSection;

#[derive(Clone, Debug)]
pub struct Notifications {
    table: Arc<Table>,
    /// The same table with only the columns that identify a row that is still queued: id and status.
    queued: Arc<Table>,
    reads: NotificationFields,
}

/// The parts of an event that make a notification. Fields are indexes into the stream's fields.
#[derive(Clone, Debug)]
pub struct NotificationFields {
    pub to: usize,
    pub event_type: usize,
    /// `None` means the whole event.
    pub payload: Option<usize>,
    pub message: Vec<MessagePart>,
    pub channel: String,
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
const EVENT_ID: usize = 1;
const STATUS: usize = 4;

impl Notifications {
    pub fn new(table: &str, reads: NotificationFields) -> Self {
        let table = Table { unique: Some(EVENT_ID), ..Table::new(table, 1, COLUMNS) };
        let columns: Vec<Column> = [0, STATUS].map(|index| table.columns[index].clone()).into();
        let queued = Table { columns, unique: None, ..table.clone() };
        Self { table: Arc::new(table), queued: Arc::new(queued), reads }
    }

    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Returns the id of an event's notification.
    pub fn id_of(event: &impl std::fmt::Display) -> String {
        format!("notif-{event}")
    }
}

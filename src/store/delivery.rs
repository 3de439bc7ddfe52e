//! Deliveries: one for each notification and destination, with its state, its due time and its attempts.

use std::sync::Arc;

use event::{EventId, LogId, Millis};

use super::Cell;
use super::stored_row::{FromCell, FromRow};
use super::tables::Table;

/// The tables of a view of notifications.
#[derive(Clone, Debug)]
pub struct NotificationTables {
    pub whole: Arc<Table>,
    /// The same table with only the columns that identify a notification that is still queued: id and status.
    pub queued: Arc<Table>,
}

/// What a plan does to notifications, in the order of the log, because an id may occur again after its event was undone.
#[derive(Clone, Debug)]
pub struct NotificationChanges {
    pub tables: NotificationTables,
    pub changes: Vec<NotificationChange>,
}

#[derive(Clone, Debug)]
pub enum NotificationChange {
    Queue(QueuedNotification),
    /// Removes a notification, unless an attempt to deliver it has begun.
    Cancel {
        id: String,
    },
}

#[derive(Clone, Debug)]
pub struct QueuedNotification {
    pub id: String,
    /// The position of its event.
    pub position: u64,
    /// The row of the view's table.
    pub row: Vec<Cell>,
    pub deliveries: Vec<NewDelivery>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDelivery {
    pub destination: String,
    pub lane: String,
    pub content: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    Waiting,
    Sent,
    Dead,
    /// A person decided that it is never sent.
    Dropped,
}

/// Identifies a delivery.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryKey {
    pub view: String,
    pub notification: String,
    pub destination: String,
}

/// What a person has decided about a notification that could not be sent.
#[derive(Clone, Debug)]
pub struct DeliveryDecision {
    /// The dead letter, which is open.
    pub letter: EventId,
    pub key: DeliveryKey,
    /// `Waiting` sends it again, with all its retries; `Dropped` never does.
    pub to: DeliveryState,
    /// Why.
    pub note: Option<String>,
    /// The table of the view, if the view runs here.
    pub table: Option<Arc<Table>>,
    /// The edited notification that is queued instead, with the log of its event.
    pub replacement: Option<(LogId, NotificationChanges)>,
}

/// A random id that marks the deliveries that were leased together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseId(pub [u8; 16]);

impl LeaseId {
    pub fn fresh() -> Self {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the operating system provides random bytes");
        Self(bytes)
    }
}

/// Which deliveries to lease. The lease lets nobody else attempt them for a time.
#[derive(Clone, Debug)]
pub struct LeaseRequest {
    pub lane: String,
    pub deliveries_max: usize,
    /// The log of this node, which finds its leases by it after a restart.
    pub owner: LogId,
    pub lease: LeaseId,
    pub millis: i64,
}

/// A delivery of which this node may make an attempt.
#[derive(Clone, Debug)]
pub struct Leased {
    pub key: DeliveryKey,
    pub lease: LeaseId,
    /// The number of this attempt.
    pub attempt: i64,
    /// Attempts that failed before, since the notification was queued or sent again.
    pub failed: i64,
    /// Attempts since then of which nothing is known, because the process ended.
    pub cut_off: i64,
    pub created: Millis,
    pub content: String,
}

/// What became of an attempt, to be recorded.
#[derive(Clone, Debug)]
pub struct AttemptRecord {
    pub key: DeliveryKey,
    pub lease: LeaseId,
    pub attempt: i64,
    pub begun: Millis,
    pub duration_millis: i64,
    pub status: Option<u16>,
    pub answer: String,
    pub error: Option<String>,
    pub next: AfterAttempt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterAttempt {
    Sent,
    /// Another attempt follows after this time.
    Retry {
        millis: i64,
    },
    /// Another attempt follows when the destination is resumed. No retry is spent.
    Resumed,
    /// No other attempt follows: the delivery becomes a dead letter.
    Dead,
    /// The attempt was not made, so nothing is spent.
    NotMade,
}

/// An attempt as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAttempt {
    pub destination: String,
    pub attempt: i64,
    pub begun: Millis,
    pub duration_millis: i64,
    pub outcome: String,
    pub status: Option<i64>,
    pub answer: String,
    pub error: Option<String>,
}

/// A delivery as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDelivery {
    pub view: String,
    pub notification: String,
    pub destination: String,
    pub state: DeliveryState,
    pub due: Millis,
    pub failed: i64,
    pub attempts: i64,
    pub is_leased: bool,
    pub updated: Millis,
}

/// Returns the table of a view of notifications.
pub type ViewTableLookup = Arc<dyn Fn(&str) -> Option<Arc<Table>> + Send + Sync>;

impl DeliveryKey {
    /// Returns the columns of the key in the tables of deliveries.
    pub fn cells(&self) -> [Cell; 3] {
        [&self.notification, &self.view, &self.destination].map(|text| text.as_str().into())
    }
}

impl DeliveryState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sent => "sent",
            Self::Dead => "dead-letter",
            Self::Dropped => "dropped",
        }
    }

    pub fn number(self) -> i64 {
        match self {
            Self::Waiting => 0,
            Self::Sent => 1,
            Self::Dead => 2,
            Self::Dropped => 3,
        }
    }
}

impl FromCell for DeliveryState {
    fn from_cell(cell: Cell) -> Option<Self> {
        let number = i64::from_cell(cell)?;
        [Self::Waiting, Self::Sent, Self::Dead, Self::Dropped]
            .into_iter()
            .find(|state| state.number() == number)
    }
}

impl From<DeliveryState> for Cell {
    fn from(state: DeliveryState) -> Self {
        Self::Integer(state.number())
    }
}

impl FromCell for LeaseId {
    fn from_cell(cell: Cell) -> Option<Self> {
        FromCell::from_cell(cell).map(Self)
    }
}

impl From<LeaseId> for Cell {
    fn from(lease: LeaseId) -> Self {
        Self::Bytes(lease.0.to_vec())
    }
}

impl FromRow for StoredDelivery {
    fn from_row(row: Vec<Cell>) -> Option<Self> {
        let (view, notification, destination, state, due, failed, attempts, is_leased, updated) =
            FromRow::from_row(row)?;
        Some(Self { view, notification, destination, state, due, failed, attempts, is_leased, updated })
    }
}

impl FromRow for StoredAttempt {
    fn from_row(row: Vec<Cell>) -> Option<Self> {
        let (destination, attempt, begun, duration_millis, outcome, status, answer, error) =
            FromRow::from_row(row)?;
        Some(Self { destination, attempt, begun, duration_millis, outcome, status, answer, error })
    }
}

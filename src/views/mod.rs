//! Views: what a stream becomes. Each runs by itself: its own position, its own transaction, its own
//! trouble. A view kind is a folder with its fold, its tables and its queries; here is the list of them.

mod apply;
mod batch;
mod bisect;
mod dead_letter;
mod erasure;
mod ledger;
mod notifications;
mod pipeline;
mod rebuild;
mod retention;
mod runner;
mod stats;
mod table;

use event::Fields;

use crate::store::{RowChanges, ViewTables, Write};

pub use batch::{BatchError, Event};
pub use dead_letter::{DeadLetterError, Sender, drop_dead_letter, only_view};
pub use erasure::{DataSubject, Eraser, ErasureError, Erasures};
pub use ledger::{Amount, Balance, Ledger, Rule};
pub use notifications::{MessagePart, Notification, NotificationFields, NotificationStatus, Notifications};
pub use rebuild::{Difference, RebuildError, Report, SHADOW, compare, rebuild};
pub use retention::{Retention, RetentionError, RetentionPolicy};
pub use runner::{Runner, Running};
pub use stats::{Counted, CountedField, Frequent, Stats, StatsFields, StatsQuery, Summary};
pub use table::{ColumnSource, EnvelopeField, FilterError, RowTable, RowsPage};

/// One view as declared.
#[derive(Clone)]
pub struct View {
    pub name: String,
    pub stream: String,
    pub kind: ViewKind,
}

/// A closed set; each kind has a folder.
#[derive(Clone)]
pub enum ViewKind {
    Ledger(Ledger),
    Stats(Stats),
    Table(RowTable),
    Notifications(Notifications),
}

/// What a fold makes of a batch: rows, and the events it could not read, with the reason.
#[derive(Default)]
pub struct Folded {
    pub writes: Vec<Write>,
    /// Of a view that keeps a row an event.
    pub rows: Option<RowChanges>,
    pub refused: Vec<(usize, String)>,
}

impl View {
    fn fold(&self, fields: &Fields, events: &[Event<'_>]) -> Folded {
        match &self.kind {
            ViewKind::Ledger(ledger) => ledger.fold(fields, events),
            ViewKind::Stats(stats) => stats.fold(fields, events),
            ViewKind::Table(table) => table.fold(fields, events),
            ViewKind::Notifications(notifications) => notifications.fold(fields, events),
        }
    }

    fn tables(&self) -> ViewTables {
        match &self.kind {
            ViewKind::Ledger(ledger) => ViewTables {
                tables: vec![ledger.table().as_ref().clone()],
                opening: Some(ledger.opening(&self.name)),
                owned: true,
            },
            ViewKind::Stats(stats) => ViewTables { tables: stats.tables(), opening: None, owned: true },
            ViewKind::Table(table) => ViewTables::owned(table.table()),
            ViewKind::Notifications(notifications) => ViewTables::owned(notifications.table()),
        }
    }

    /// As configuration calls it.
    pub fn kind_name(&self) -> &'static str {
        match &self.kind {
            ViewKind::Ledger(_) => "ledger",
            ViewKind::Stats(_) => "stats",
            ViewKind::Table(_) => "table",
            ViewKind::Notifications(_) => "notify",
        }
    }

    pub fn ledger(&self) -> Option<&Ledger> {
        match &self.kind {
            ViewKind::Ledger(ledger) => Some(ledger),
            _ => None,
        }
    }

    pub fn stats(&self) -> Option<&Stats> {
        match &self.kind {
            ViewKind::Stats(stats) => Some(stats),
            _ => None,
        }
    }

    pub fn row_table(&self) -> Option<&RowTable> {
        match &self.kind {
            ViewKind::Table(table) => Some(table),
            _ => None,
        }
    }

    pub fn notifications(&self) -> Option<&Notifications> {
        match &self.kind {
            ViewKind::Notifications(notifications) => Some(notifications),
            _ => None,
        }
    }
}

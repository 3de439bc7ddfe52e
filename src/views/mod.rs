//! Views turn the events of a stream into rows of the database. Each view has its own position and its own
//! transactions, so a failure of one view does not stop the others. Each kind of view is a folder with its fold, its
//! tables and its queries. This file lists the kinds.

mod apply;
mod batch;
mod batch_report;
mod batch_rule;
mod batch_timing;
mod batched;
mod bisect;
mod changes;
mod dead_letter;
mod definition;
mod definition_change;
mod definition_ranges;
mod erasure;
mod erasure_error;
mod erasure_key;
mod erasure_records;
mod gather;
mod ledger;
mod notifications;
mod pipeline;
mod preview;
mod rebuild;
mod retention;
mod retention_policy;
mod runner;
mod section;
mod stats;
mod table;
mod undoing;

use event::Fields;
use event::limits::BATCH_EVENTS_MAX;

use crate::store::{Claim, NotificationChanges, Plan, RowChanges, ViewTables, Visits, Write};

pub use batch::{BatchError, Event};
pub use batch_rule::BatchRule;
pub use changes::{Changed, Changes, Watching};
pub use dead_letter::{DeadLetterError, DeadLetterRetry, drop_dead_letter, only_view};
pub use definition::{ChangedSetting, Definition};
pub use definition_change::{
    AcceptEffect, AcceptError, Accepted, accept, changes as definition_changes, prepare,
};
pub use erasure::{DataSubject, Eraser, Erasures};
pub use erasure_error::ErasureError;
pub use erasure_key::ErasureKey;
pub use ledger::{Amount, Balance, Ledger, Rule};
pub use notifications::{
    MessagePart, Notification, NotificationBody, NotificationFields, Notifications, Recipient,
};
pub use rebuild::{Difference, RebuildError, Report, SHADOW, compare, rebuild};
pub use retention::{Retention, RetentionError};
pub use retention_policy::{ByteCount, KeptFor, RetentionPolicy};
pub use runner::{Runner, Running};
pub use section::ViewSection;
pub use stats::{
    Counted, CountedField, Frequent, GroupStats, ParameterError, Stats, StatsFields, StatsParameters,
    StatsQuery, Summary,
};
pub use table::{ColumnSource, EnvelopeField, FilterError, RowTable, RowsPage};

/// A view as the configuration declares it.
#[derive(Clone, Debug)]
pub struct View {
    pub name: String,
    pub stream: String,
    pub kind: ViewKind,
    /// When waiting events are applied; `None` if they are applied as soon as possible. It decides no value, so it is
    /// not part of the view's definition.
    pub batch: Option<BatchRule>,
}

/// The kinds of views. Each kind has its own folder.
#[derive(Clone, Debug)]
pub enum ViewKind {
    Ledger(Ledger),
    Stats(Stats),
    Table(RowTable),
    Notifications(Notifications),
}

/// The result of folding a batch.
#[derive(Default)]
pub struct Folded {
    pub writes: Vec<Write>,
    /// The visits of a view that counts distinct members.
    pub visits: Option<Visits>,
    /// The row changes of a view of kind `table`.
    pub rows: Option<RowChanges>,
    /// The changes of a view of kind `notifications`.
    pub notifications: Option<NotificationChanges>,
    /// The indexes of the events that could not be folded, each with the reason.
    pub refused: Vec<(usize, String)>,
    /// The result would need too much memory, so the rest of the events was not folded. Fewer have to be folded together.
    pub is_too_large: bool,
}

impl Folded {
    /// Adds the result of folding the events that follow. `before` is the number of events that were folded so far.
    fn append(&mut self, later: Self, before: usize) {
        self.writes.extend(later.writes);
        match (&mut self.visits, later.visits) {
            (Some(visits), Some(later)) => visits.merge(later),
            (visits, later) => *visits = visits.take().or(later),
        }
        // Events of a table that are folded together have one definition, so only one part has rows.
        debug_assert!(self.rows.is_none() || later.rows.is_none(), "rows of two definitions");
        self.rows = self.rows.take().or(later.rows);
        match (&mut self.notifications, later.notifications) {
            (Some(ours), Some(later)) => ours.changes.extend(later.changes),
            (ours, later) => *ours = ours.take().or(later),
        }
        self.refused.extend(later.refused.into_iter().map(|(index, reason)| (before + index, reason)));
        self.is_too_large |= later.is_too_large;
    }

    /// Returns the plan that applies the events, and those that could not be folded.
    fn into_plan(self, claim: Claim) -> (Plan, Vec<(usize, String)>) {
        let Self { writes, visits, rows, notifications, refused, is_too_large: _ } = self;
        (Plan { writes, visits, rows, notifications, ..Plan::new(claim) }, refused)
    }
}

impl View {
    /// Returns how many events may be folded together.
    fn events_together(&self) -> usize {
        match &self.kind {
            ViewKind::Ledger(_) | ViewKind::Stats(_) | ViewKind::Table(_) => BATCH_EVENTS_MAX,
            ViewKind::Notifications(notifications) => notifications.events_together(),
        }
    }

    fn fold(&self, fields: &Fields, events: &[Event<'_>]) -> Folded {
        match &self.kind {
            ViewKind::Ledger(ledger) => ledger.fold(fields, events),
            ViewKind::Stats(stats) => stats.fold(fields, events),
            ViewKind::Table(table) => table.fold(fields, events),
            ViewKind::Notifications(notifications) => notifications.fold(&self.name, fields, events),
        }
    }

    /// Returns the tables that the view writes, and the SQL views beside them.
    pub fn tables(&self) -> ViewTables {
        let tables = match &self.kind {
            ViewKind::Ledger(ledger) => ViewTables {
                tables: vec![ledger.table().as_ref().clone()],
                opening: Some(ledger.opening(&self.name)),
                owned: true,
                ..ViewTables::default()
            },
            ViewKind::Stats(stats) => stats.view_tables(),
            ViewKind::Table(table) => ViewTables::owned(table.table()),
            ViewKind::Notifications(notifications) => ViewTables::owned(notifications.table()),
        };
        tables.with_numeric_sql_views()
    }

    /// Returns the names of the tables that the view writes.
    pub fn table_names(&self) -> Vec<String> {
        match &self.kind {
            ViewKind::Stats(stats) => stats.table_names(),
            _ => self.tables().tables.into_iter().map(|table| table.name).collect(),
        }
    }

    /// Returns the name of the kind in API responses.
    pub fn kind_name(&self) -> &'static str {
        match &self.kind {
            ViewKind::Ledger(_) => "ledger",
            ViewKind::Stats(_) => "stats",
            ViewKind::Table(_) => "table",
            ViewKind::Notifications(_) => "notifications",
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

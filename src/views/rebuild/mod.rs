//! Folds the log again and compares the result with a view, while the view continues. `compare` reports the
//! differences; `rebuild` also repairs the view. This file folds the log into shadow tables. Each kind of view has
//! a file that compares and repairs it.

mod definitions;
mod ledger;
mod notifications;
mod replay;
mod stats;
mod table;

use std::sync::{Arc, MutexGuard, TryLockError};

use event::Stop;
use event::limits::REFUSALS_LISTED_MAX;
use tokio::runtime::Handle;

use super::batch::BatchError;
use super::definition_ranges::DefinitionRanges;
use super::{Running, View, ViewKind};
use crate::log::EventLog;
use crate::store::{Cell, Claim, Store, StoreError, ViewTables};

use definitions::Definitions;
use replay::LogReplay;

/// The suffix of a shadow's name in the store. The position of a shadow that a crash left behind is ignored.
pub const SHADOW: &str = "~shadow";

#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    #[error(
        "retention has deleted events below position {0} of the log, so the view cannot be compared with the log or rebuilt"
    )]
    HistoryGone(u64),
    #[error(
        "a repair of the log lost events at position {0}, so the view cannot be compared with the log or rebuilt"
    )]
    HistoryLost(u64),
    #[error(
        "table `millrace_opening`: the amount `{amount}`, which key `{key}` had before view `{view}` began, is not a number; correct it there"
    )]
    Opening { view: String, key: String, amount: String },
    #[error("the balance that key `{0}` should have is too large for a ledger")]
    Sum(String),
    #[error("several logs feed view `{0}`, and only one of them is on this server")]
    SeveralLogs(String),
    #[error(
        "view `{0}` queues notifications and cannot be rebuilt, because delivered ones would be sent again"
    )]
    WouldSendAgain(String),
    #[error(
        "retention has deleted old rows of view `{0}`, so the view cannot be compared with the log or rebuilt"
    )]
    RowsDeleted(String),
    #[error(
        "view `{0}` is already being compared or rebuilt, or events of its stream are being erased; try again later"
    )]
    Busy(String),
    #[error("{0}")]
    Definition(String),
    #[error("{0}")]
    Tables(String),
    #[error(
        "the new definition of view `{view}` cannot apply the event at position {position}, which its rows contain ({reason}), so nothing was changed; correct the definition, or run `millrace view accept {view}`"
    )]
    Refused { view: String, position: u64, reason: String },
    #[error("view `{0}` has stopped")]
    Ended(String),
    #[error("{0}")]
    Batch(#[from] BatchError),
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// A row that differs from the result of the log, as readable text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub key: String,
    /// `None` if the row is missing.
    pub has: Option<String>,
    pub should_have: String,
}

/// The result of a comparison at one position of the log.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub position: u64,
    pub keys: u64,
    pub difference_count: u64,
    /// The first differences.
    pub differences: Vec<Difference>,
}

impl Report {
    fn note(&mut self, difference: Difference) {
        self.difference_count += 1;
        if self.differences.len() < REFUSALS_LISTED_MAX {
            self.differences.push(difference);
        }
    }
}

/// Compares a view with the log. Blocks while the log is folded, or until a stop is requested.
pub fn compare(
    view: &Running,
    log: &EventLog,
    store: &Store,
    runtime: &Handle,
    stop: &Stop,
) -> Result<Report, RebuildError> {
    run(Context { view, log, store, runtime, stop }, false)
}

/// Compares a view with the log, and repairs it. Repeated after a crash, it repairs what is still different.
pub fn rebuild(
    view: &Running,
    log: &EventLog,
    store: &Store,
    runtime: &Handle,
    stop: &Stop,
) -> Result<Report, RebuildError> {
    let context = Context { view, log, store, runtime, stop };
    let outcome = run(context, true);
    // One that breaks off may have replaced some rows since it told the readers that it begins.
    let may_have_replaced = |error: &RebuildError| {
        use RebuildError::{Batch, Ended, HistoryGone, RowsDeleted, SeveralLogs, Store, Sum};
        matches!(
            error,
            Store(_) | Batch(_) | Ended(_) | Sum(_) | HistoryGone(_) | RowsDeleted(_) | SeveralLogs(_)
        )
    };
    if outcome.as_ref().is_err_and(may_have_replaced)
        && let Err(error) = context.begin_generation()
    {
        tracing::warn!(view = view.view.name, %error, "readers could not be told of the rebuild that broke off");
    }
    outcome
}

/// Everything that a comparison needs.
#[derive(Clone, Copy)]
struct Context<'a> {
    view: &'a Running,
    log: &'a EventLog,
    store: &'a Store,
    runtime: &'a Handle,
    stop: &'a Stop,
}

fn run(context: Context<'_>, repair: bool) -> Result<Report, RebuildError> {
    let _history = context.runtime.block_on(context.log.history_lock().hold());
    let _lock = lock_replay(context)?;
    let Some(definitions) = Definitions::of(context, repair)? else {
        // A view that has not begun has applied nothing, and the content of its table is not its own yet.
        return Ok(Report::default());
    };
    let definitions = &definitions;
    let shadow = format!("millrace_shadow_{}", context.view.view.name);
    let kind = match &context.view.view.kind {
        // Rows of a table are found by their events, so no shadow table is needed.
        ViewKind::Table(rows) => return table::compare(context, definitions, rows, repair),
        ViewKind::Notifications(_) => return notifications::compare(context, definitions, repair),
        ViewKind::Ledger(ledger) => ViewKind::Ledger(ledger.in_table(&shadow)),
        // The name of a view contains no `~`, so no other shadow has these tables.
        ViewKind::Stats(stats) => ViewKind::Stats(stats.in_tables(&format!("{shadow}~"))),
    };
    ShadowFold::new(context, definitions, kind).run(repair)
}

/// Locks a view for a comparison. Fails if the view is in use, or if this log is not the view's whole history.
fn lock_replay(context: Context<'_>) -> Result<MutexGuard<'_, ()>, RebuildError> {
    let view = context.view;
    context.fail_if_history_deleted()?;
    let name = &view.view.name;
    let guard = match view.replay_lock.try_lock() {
        Ok(guard) => guard,
        // A panic may have left a shadow behind. It is removed before the next one is made.
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return Err(RebuildError::Busy(name.clone())),
    };
    fail_if_several_logs(context)?;
    Ok(guard)
}

/// Fails if another log has fed the view, too: its events are not in this log.
fn fail_if_several_logs(Context { view, log, store, runtime, .. }: Context<'_>) -> Result<(), RebuildError> {
    let name = &view.view.name;
    let positions = runtime.block_on(store.positions())?;
    if positions.iter().any(|row| row.view == *name && row.log != log.id()) {
        Err(RebuildError::SeveralLogs(name.clone()))
    } else {
        Ok(())
    }
}

/// The fold of the log into shadow tables.
struct ShadowFold<'a> {
    context: Context<'a>,
    definitions: &'a Definitions,
    shadow: View,
    at: u64,
    /// The first event that a definition refuses although the view has applied it.
    refused: Option<RebuildError>,
}

impl<'a> ShadowFold<'a> {
    fn new(context: Context<'a>, definitions: &'a Definitions, kind: ViewKind) -> Self {
        let view = &context.view.view;
        let shadow = View { name: format!("{}{SHADOW}", view.name), kind, ..view.clone() };
        Self { context, definitions, shadow, at: 0, refused: None }
    }

    fn run(mut self, repair: bool) -> Result<Report, RebuildError> {
        // Clear at the beginning too, because a crash may have left a shadow.
        self.clear()?;
        let outcome = self.fold_and_compare(repair);
        self.clear()?;
        outcome
    }

    fn fold_and_compare(&mut self, repair: bool) -> Result<Report, RebuildError> {
        failpoint::hit("rebuild.cleared");
        let context = self.context;
        let tables = ViewTables { tables: self.shadow.tables().tables, ..Default::default() };
        context.runtime.block_on(context.store.begin_view(self.claim(0), tables))?;
        let ranges = self.definitions.ranges_for(&self.shadow)?;
        // Fold most of the log while the view continues, and the rest while it is on hold.
        let position = context.position()?.unwrap_or(0);
        self.fold_until(&ranges, position)?;
        let hold = context.hold()?;
        let stored = context.position()?.unwrap_or(0);
        self.fold_until(&ranges, stored)?;
        failpoint::hit("rebuild.folded");
        context.fail_if_history_deleted()?;
        // Another node may have begun to feed the view meanwhile.
        fail_if_several_logs(context)?;
        let mut report = Report { position: stored, ..Report::default() };
        if repair {
            if let Some(refusal) = self.refused.take().filter(|_| self.definitions.replaces()) {
                return Err(refusal);
            }
            self.definitions.begin_to_replace(context)?;
        }
        match (&context.view.view.kind, &self.shadow.kind) {
            (ViewKind::Ledger(view), ViewKind::Ledger(shadow)) => {
                ledger::LedgerComparison { fold: self, view, shadow }.compare(repair, &mut report)?;
            }
            (ViewKind::Stats(view), ViewKind::Stats(shadow)) => {
                stats::compare(self, view, shadow, repair, &mut report)?;
            }
            _ => unreachable!("a shadow has the kind of its view"),
        }
        if repair {
            self.definitions.end_replacing(context)?;
        }
        drop(hold);
        Ok(report)
    }

    fn clear(&self) -> Result<(), RebuildError> {
        let Context { view, store, runtime, .. } = self.context;
        let mut tables = self.shadow.tables().tables;
        if let Some(ledger) = view.view.ledger() {
            tables.push(ledger::rebuilt_ledger(ledger, &view.view.name).table().as_ref().clone());
        }
        runtime.block_on(store.drop_tables(&tables))?;
        let forget = "DELETE FROM millrace_positions WHERE view = ?".to_owned();
        runtime.block_on(store.change(forget, vec![Cell::Text(self.shadow.name.clone())]))?;
        Ok(())
    }

    fn claim(&self, to: u64) -> Claim {
        let (view, log) = (self.shadow.name.clone(), self.context.log.id());
        Claim { view, log, from: self.at, to, definition: None }
    }

    fn fold_until(&mut self, ranges: &DefinitionRanges, until: u64) -> Result<(), RebuildError> {
        let Context { store, runtime, .. } = self.context;
        LogReplay::new(self.context, ranges, self.at).each(until, |batch, _| {
            let folded = ranges.fold(&batch.events);
            self.refused = self.refused.take().or_else(|| definitions::refusal(self.context, batch, &folded));
            let (plan, _) = folded.into_plan(self.claim(batch.span.end));
            runtime.block_on(store.apply(Arc::new(plan)))?;
            self.at = batch.span.end;
            Ok(())
        })
    }
}

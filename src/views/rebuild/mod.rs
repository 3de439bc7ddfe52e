//! Folding the log afresh, beside a view that goes on: `compare` says where the view differs from what
//! the log makes, `rebuild` makes it that. Here is the way to two sets of tables that can be laid side by
//! side; what comparing and mending mean is a file a kind.

mod ledger;
mod notifications;
mod replay;
mod stats;
mod table;

use std::sync::{Arc, MutexGuard, TryLockError};

use event::Stop;
use event::limits::REFUSALS_LISTED_MAX;
use journal::failpoint;
use tokio::runtime::Handle;

use super::batch::BatchError;
use super::{Running, View, ViewKind};
use crate::log::EventLog;
use crate::store::{Cell, Claim, Plan, Store, StoreError, ViewTables};

use replay::Walk;

/// Follows a view's name where its shadow is meant. What a crash left of one stands in nobody's way.
pub const SHADOW: &str = "~shadow";

#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    #[error(
        "what the log held below position {0} was given up, as `[retention]` says: the view cannot be made from what is left"
    )]
    HistoryGone(u64),
    #[error(
        "the log has a hole at position {0}, where a repair gave events up: the view cannot be made from what is left"
    )]
    HistoryLost(u64),
    #[error(
        "`millrace_opening` holds `{amount}`, which is no number, as what `{key}` had before view `{view}`; put the number there"
    )]
    Opening { view: String, key: String, amount: String },
    #[error("what `{0}` should have is more than a ledger holds")]
    Sum(String),
    #[error("view `{0}` is fed by several logs, of which only one is here")]
    SeveralLogs(String),
    #[error("view `{0}` is an outbox: made from its log again, what was delivered would be sent again")]
    WouldSendAgain(String),
    #[error(
        "old rows of view `{0}` were given up, as `[retention]` says: it is no longer all that its log makes"
    )]
    RowsGivenUp(String),
    #[error("view `{0}` is being compared or rebuilt already, or events of its stream are being erased")]
    Busy(String),
    #[error("view `{0}` has ended")]
    Ended(String),
    #[error("{0}")]
    Batch(#[from] BatchError),
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// One row that is not what the log makes, in words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub key: String,
    /// `None` where the row is missing.
    pub has: Option<String>,
    pub should_have: String,
}

/// What a comparison found at one position.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub position: u64,
    pub keys: u64,
    pub difference_count: u64,
    /// The first of them.
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

/// Compares. Blocks for as long as folding the log takes, or until the order to stop.
pub fn compare(
    view: &Running,
    log: &EventLog,
    store: &Store,
    runtime: &Handle,
    stop: &Stop,
) -> Result<Report, RebuildError> {
    ask(Asked { view, log, store, runtime, stop }, false)
}

/// Compares, and mends. Run again after a crash, it finds what is still to be mended.
pub fn rebuild(
    view: &Running,
    log: &EventLog,
    store: &Store,
    runtime: &Handle,
    stop: &Stop,
) -> Result<Report, RebuildError> {
    ask(Asked { view, log, store, runtime, stop }, true)
}

/// Whom a comparison asks.
#[derive(Clone, Copy)]
struct Asked<'a> {
    view: &'a Running,
    log: &'a EventLog,
    store: &'a Store,
    runtime: &'a Handle,
    stop: &'a Stop,
}

fn ask(asked: Asked<'_>, mend: bool) -> Result<Report, RebuildError> {
    let _past = asked.runtime.block_on(asked.log.history_lock().hold());
    let _turn = turn(asked)?;
    let shadow = format!("millrace_shadow_{}", asked.view.view.name);
    let kind = match &asked.view.view.kind {
        // Its rows are found by their events, and need no second table.
        ViewKind::Table(rows) => return table::compare(asked, rows, mend),
        ViewKind::Notifications(outbox) => return notifications::compare(asked, outbox, mend),
        ViewKind::Ledger(ledger) => ViewKind::Ledger(ledger.in_table(&shadow)),
        // No view's name has a `~` in it, so that no other shadow has these tables.
        ViewKind::Stats(stats) => ViewKind::Stats(stats.in_tables(&format!("{shadow}~"))),
    };
    Fresh::new(asked, kind).run(mend)
}

/// The turn at comparing a view, if the log can vouch for it.
fn turn(asked: Asked<'_>) -> Result<MutexGuard<'_, ()>, RebuildError> {
    let view = asked.view;
    asked.history_is_whole()?;
    let name = &view.view.name;
    let turn = match view.shadow.try_lock() {
        Ok(turn) => turn,
        // Whoever panicked has left a shadow behind that is cleared away before it is used.
        Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
        Err(TryLockError::WouldBlock) => return Err(RebuildError::Busy(name.clone())),
    };
    only_log(asked)?;
    Ok(turn)
}

/// What another node's log has brought cannot be made from this one.
fn only_log(Asked { view, log, store, runtime, .. }: Asked<'_>) -> Result<(), RebuildError> {
    let name = &view.view.name;
    let positions = runtime.block_on(store.positions())?;
    match positions.iter().any(|row| row.view == *name && row.log != log.id()) {
        true => Err(RebuildError::SeveralLogs(name.clone())),
        false => Ok(()),
    }
}

/// The log folded into tables of its own.
struct Fresh<'a> {
    view: &'a Running,
    log: &'a EventLog,
    store: &'a Store,
    runtime: &'a Handle,
    stop: &'a Stop,
    shadow: View,
    at: u64,
}

impl<'a> Fresh<'a> {
    fn new(asked: Asked<'a>, kind: ViewKind) -> Self {
        let Asked { view, log, store, runtime, stop } = asked;
        let View { name, stream, .. } = &view.view;
        let shadow = View { name: format!("{name}{SHADOW}"), stream: stream.clone(), kind };
        Self { view, log, store, runtime, stop, shadow, at: 0 }
    }

    fn run(mut self, mend: bool) -> Result<Report, RebuildError> {
        // At the beginning too: a crash may have left a shadow.
        self.clear()?;
        let outcome = self.fold_and_compare(mend);
        self.clear()?;
        outcome
    }

    fn fold_and_compare(&mut self, mend: bool) -> Result<Report, RebuildError> {
        failpoint::hit("rebuild.cleared");
        let tables = ViewTables { tables: self.shadow.tables().tables, ..Default::default() };
        self.runtime.block_on(self.store.begin_view(self.claim(0), tables))?;
        // Most of the way while the view goes on, the rest while it is held.
        let position = self.runtime.block_on(self.store.position(&self.view.view.name, self.log.id()))?;
        let Some(position) = position else {
            // A view that has not begun has counted nothing, and what its table holds is not its own yet.
            return Ok(Report::default());
        };
        self.fold_until(position)?;
        let held = self
            .runtime
            .block_on(self.view.hold())
            .ok_or_else(|| RebuildError::Ended(self.view.view.name.clone()))?;
        let stored =
            self.runtime.block_on(self.store.position(&self.view.view.name, self.log.id()))?.unwrap_or(0);
        self.fold_until(stored)?;
        failpoint::hit("rebuild.folded");
        self.asked().history_is_whole()?;
        // Another node may have begun while this folded.
        only_log(self.asked())?;
        let mut report = Report { position: stored, ..Report::default() };
        match (&self.view.view.kind, &self.shadow.kind) {
            (ViewKind::Ledger(view), ViewKind::Ledger(shadow)) => {
                ledger::Sides { fresh: self, view, shadow }.compare(mend, &mut report)?;
            }
            (ViewKind::Stats(view), ViewKind::Stats(shadow)) => {
                stats::compare(self, view, shadow, mend, &mut report)?;
            }
            _ => unreachable!("a shadow is of its view's kind"),
        }
        drop(held);
        Ok(report)
    }

    fn clear(&self) -> Result<(), RebuildError> {
        let mut tables = self.shadow.tables().tables;
        if let Some(ledger) = self.view.view.ledger() {
            tables.push(ledger::made_anew(ledger, &self.view.view.name).table().as_ref().clone());
        }
        self.runtime.block_on(self.store.drop_tables(&tables))?;
        let forget = "DELETE FROM millrace_positions WHERE view = ?".to_owned();
        self.runtime.block_on(self.store.change(forget, vec![Cell::Text(self.shadow.name.clone())]))?;
        Ok(())
    }

    fn go_on(&self) -> Result<(), RebuildError> {
        self.asked().go_on()
    }

    fn asked(&self) -> Asked<'a> {
        let Self { view, log, store, runtime, stop, .. } = *self;
        Asked { view, log, store, runtime, stop }
    }

    fn claim(&self, to: u64) -> Claim {
        Claim { view: self.shadow.name.clone(), log: self.log.id(), from: self.at, to }
    }

    fn fold_until(&mut self, until: u64) -> Result<(), RebuildError> {
        let Self { view, store, runtime, .. } = *self;
        Walk::new(self.asked(), self.at).each(until, |batch| {
            let mut plan = Plan::new(self.claim(batch.span.end));
            plan.writes = self.shadow.fold(&view.fields, &batch.events).writes;
            runtime.block_on(store.apply(Arc::new(plan)))?;
            self.at = batch.span.end;
            Ok(())
        })
    }
}

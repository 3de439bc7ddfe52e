//! Folding the log afresh, beside a view that goes on: `compare` says where the view differs from what
//! the log makes, `rebuild` adds the difference. What a table held before its view counts as it was.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, TryLockError};

use journal::failpoint;
use tokio::runtime::Handle;

use super::batch::{BatchError, BatchLimits, BatchReader, Wanted};
use super::table::{self, Asked};
use super::{Balance, Ledger, Running, ViewKind};
use crate::event::limits::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX, REBUILD_ROWS_MAX, REFUSALS_LISTED_MAX};
use crate::event::{Decimal, LogId, Stop};
use crate::eventlog::EventLog;
use crate::store::{Cell, Claim, Plan, Store, StoreError, Verb, ViewTables, Write, quote};

/// Follows a view's name where its shadow is meant.
const SHADOW: &str = "~shadow";

#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    #[error(
        "the log begins at position {0}: what came before is no longer in it, so that the view cannot be made from it"
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
    #[error("view `{0}` is being compared or rebuilt already")]
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
    pub fn note(&mut self, difference: Difference) {
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

/// Compares, and adds what is missing, under the view's claim. Run again after a crash, it finds what is
/// still missing.
pub fn rebuild(
    view: &Running,
    log: &EventLog,
    store: &Store,
    runtime: &Handle,
    stop: &Stop,
) -> Result<Report, RebuildError> {
    ask(Asked { view, log, store, runtime, stop }, true)
}

fn ask(asked: Asked<'_>, mend: bool) -> Result<Report, RebuildError> {
    match &asked.view.view.kind {
        ViewKind::Ledger(ledger) => Fresh::new(asked, ledger)?.run(mend),
        ViewKind::Table(table) => table::compare(asked, table, mend),
    }
}

/// The turn at comparing this view, if its log can vouch for it.
pub fn turn<'a>(
    view: &'a Running,
    log: &EventLog,
    store: &Store,
    runtime: &Handle,
) -> Result<MutexGuard<'a, ()>, RebuildError> {
    if log.begin() > 0 {
        return Err(RebuildError::HistoryGone(log.begin()));
    }
    let name = &view.view.name;
    let turn = match view.shadow.try_lock() {
        Ok(turn) => turn,
        // Whoever panicked has left a shadow behind that is cleared away before it is used.
        Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
        Err(TryLockError::WouldBlock) => return Err(RebuildError::Busy(name.clone())),
    };
    let positions = runtime.block_on(store.positions())?;
    if positions.iter().any(|row| row.view == *name && row.log != log.id()) {
        return Err(RebuildError::SeveralLogs(name.clone()));
    }
    Ok(turn)
}

/// The log folded into a table of its own.
struct Fresh<'a> {
    view: &'a Running,
    log: &'a EventLog,
    store: &'a Store,
    runtime: &'a Handle,
    stop: &'a Stop,
    ledger: &'a Ledger,
    shadow: Ledger,
    name: String,
    at: u64,
    _turn: MutexGuard<'a, ()>,
}

impl<'a> Fresh<'a> {
    fn new(asked: Asked<'a>, ledger: &'a Ledger) -> Result<Self, RebuildError> {
        let Asked { view, log, store, runtime, stop } = asked;
        let turn = turn(view, log, store, runtime)?;
        let name = &view.view.name;
        let shadow = ledger.in_table(&format!("millrace_shadow_{name}"));
        let name = format!("{name}{SHADOW}");
        Ok(Self { view, log, store, runtime, stop, ledger, shadow, name, at: 0, _turn: turn })
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
        let tables = ViewTables { tables: vec![self.shadow.table().as_ref().clone()], ..Default::default() };
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
        let target = if mend { Some(self.target()?) } else { None };
        let report = self.differences(stored, target.as_ref())?;
        failpoint::hit("rebuild.mended");
        if let Some(target) = target {
            self.put_in_place(&target)?;
        }
        drop(held);
        Ok(report)
    }

    /// Where differences are written. A table that is gone is made under another name: one that is there
    /// and not whole yet would be taken for the view's own after a crash.
    fn target(&self) -> Result<Ledger, RebuildError> {
        match self.runtime.block_on(self.ledger.balances(self.store, None, 1)) {
            Ok(_) => return Ok(self.ledger.clone()),
            Err(StoreError::NoTable(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let target = self.rebuilt();
        self.runtime.block_on(self.store.make_table(target.table().as_ref().clone()))?;
        Ok(target)
    }

    /// Where a table that is gone is made anew.
    fn rebuilt(&self) -> Ledger {
        self.ledger.in_table(&format!("millrace_rebuilt_{}", self.view.view.name))
    }

    fn put_in_place(&self, target: &Ledger) -> Result<(), RebuildError> {
        let (made, wanted) = (&target.table().name, &self.ledger.table().name);
        if made != wanted {
            let rename = format!("ALTER TABLE {} RENAME TO {}", quote(made), quote(wanted));
            self.runtime.block_on(self.store.change(rename, Vec::new()))?;
        }
        Ok(())
    }

    fn mend(&self, target: &Ledger, position: u64, differences: &[Compared]) -> Result<(), RebuildError> {
        let claim =
            Claim { view: self.view.view.name.clone(), log: self.log.id(), from: position, to: position };
        let mut cells = Vec::with_capacity(differences.len() * 2);
        for difference in differences {
            let missing = difference.should_have.checked_sub(difference.has.unwrap_or_default());
            let missing = missing.ok_or_else(|| RebuildError::Sum(difference.key.clone()))?;
            cells.extend([Cell::Text(difference.key.clone()), Cell::Decimal(missing)]);
        }
        let mut plan = Plan::new(claim);
        plan.writes.push(Write { table: target.table(), verb: Verb::Add, cells });
        self.runtime.block_on(self.store.apply(Arc::new(plan)))?;
        failpoint::hit("rebuild.page_mended");
        Ok(())
    }

    fn drop_table(&self, ledger: &Ledger) -> Result<(), RebuildError> {
        let drop = format!("DROP TABLE IF EXISTS {}", quote(&ledger.table().name));
        self.runtime.block_on(self.store.change(drop, Vec::new()))?;
        Ok(())
    }

    fn clear(&self) -> Result<(), RebuildError> {
        self.drop_table(&self.shadow)?;
        self.drop_table(&self.rebuilt())?;
        let forget = "DELETE FROM millrace_positions WHERE view = ?".to_owned();
        self.runtime.block_on(self.store.change(forget, vec![Cell::Text(self.name.clone())]))?;
        Ok(())
    }

    /// Folding a long log must not hold up the end of the process; begun again, it does the same.
    fn go_on(&self) -> Result<(), RebuildError> {
        match self.stop.asked() {
            true => Err(RebuildError::Ended(self.view.view.name.clone())),
            false => Ok(()),
        }
    }

    fn claim(&self, to: u64) -> Claim {
        Claim { view: self.name.clone(), log: self.log.id(), from: self.at, to }
    }

    fn fold_until(&mut self, until: u64) -> Result<(), RebuildError> {
        let mut reader = BatchReader::new(self.log, self.store, self.runtime);
        let (name, log): (&str, LogId) = (&self.view.view.name, self.log.id());
        while self.at < until {
            failpoint::hit("rebuild.batch");
            self.go_on()?;
            let limits = BatchLimits { until, events_max: BATCH_EVENTS_MAX };
            let read = reader.records(self.at, BATCH_BYTES_MAX)?;
            let mut batch = read.batch(Wanted { view: name, stream: &self.view.view.stream }, limits)?;
            if let Some(position) = batch.hole {
                return Err(RebuildError::HistoryLost(position));
            }
            let passed =
                self.runtime.block_on(self.store.passed_positions(name, log, self.at, batch.span.end))?;
            batch.events.retain(|event| passed.binary_search(&event.position).is_err());
            let mut plan = Plan::new(self.claim(batch.span.end));
            plan.writes = self.shadow.fold(&self.view.fields, &batch.events).writes;
            self.runtime.block_on(self.store.apply(Arc::new(plan)))?;
            self.at = batch.span.end;
        }
        Ok(())
    }

    /// Walks the view, its opening and its shadow together, in the order of their keys, a page at a time.
    fn differences(&self, position: u64, target: Option<&Ledger>) -> Result<Report, RebuildError> {
        let mut report = Report { position, ..Report::default() };
        let mut after: Option<String> = None;
        loop {
            self.go_on()?;
            let sides = [
                self.rows(self.ledger, after.as_deref())?,
                self.rows(&self.shadow, after.as_deref())?,
                self.opening(after.as_deref())?,
            ];
            let Some(last) = page_end(&sides) else { break };
            let page = merge(sides, &last)?;
            report.keys += page.len() as u64;
            let found: Vec<Compared> =
                page.into_iter().filter(|row| row.has != Some(row.should_have)).collect();
            if let (Some(target), false) = (target, found.is_empty()) {
                self.mend(target, position, &found)?;
            }
            for Compared { key, has, should_have } in found {
                let has = has.map(|amount| amount.to_string());
                report.note(Difference { key, has, should_have: should_have.to_string() });
            }
            after = Some(last);
        }
        Ok(report)
    }

    /// A table that is not there has no rows.
    fn rows(&self, ledger: &Ledger, after: Option<&str>) -> Result<Vec<Balance>, RebuildError> {
        match self.runtime.block_on(ledger.balances(self.store, after, REBUILD_ROWS_MAX)) {
            Err(StoreError::NoTable(_)) => Ok(Vec::new()),
            read => Ok(read?),
        }
    }

    fn opening(&self, after: Option<&str>) -> Result<Vec<Balance>, RebuildError> {
        let mut parameters = vec![Cell::Text(self.view.view.name.clone())];
        parameters.extend(after.map(|after| Cell::Text(after.to_owned())));
        let beyond = if after.is_some() { "AND row_key > ?" } else { "" };
        let sql = format!(
            "SELECT row_key, amount FROM millrace_opening WHERE view = ? {beyond} ORDER BY row_key LIMIT {REBUILD_ROWS_MAX}"
        );
        let rows = self.runtime.block_on(self.store.rows(sql, parameters))?;
        let balance = |row: Vec<Cell>| match <[Cell; 2]>::try_from(row) {
            Ok([Cell::Text(key), Cell::Text(amount)]) => match amount.parse() {
                Ok(amount) => Ok(Balance { key, amount }),
                Err(_) => Err(RebuildError::Opening { view: self.view.view.name.clone(), key, amount }),
            },
            _ => Err(StoreError::Blocked(
                "table `millrace_opening` holds a row that is not in its form".to_owned(),
            )
            .into()),
        };
        rows.into_iter().map(balance).collect()
    }
}

/// What one key has and should have.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Compared {
    key: String,
    has: Option<Decimal>,
    should_have: Decimal,
}

/// The last key that all sides have been read up to: the smallest end among the full pages. `None` when
/// all is read.
fn page_end(sides: &[Vec<Balance>; 3]) -> Option<String> {
    let full = sides
        .iter()
        .filter(|side| side.len() == REBUILD_ROWS_MAX)
        .filter_map(|side| side.last())
        .map(|row| &row.key)
        .min();
    full.or_else(|| sides.iter().filter_map(|side| side.last()).map(|row| &row.key).max()).cloned()
}

fn merge([view, shadow, opening]: [Vec<Balance>; 3], last: &str) -> Result<Vec<Compared>, RebuildError> {
    let mut rows: BTreeMap<String, (Option<Decimal>, Decimal)> = BTreeMap::new();
    let within = |rows: Vec<Balance>| rows.into_iter().filter(|row| row.key.as_str() <= last);
    for row in within(view) {
        rows.entry(row.key).or_default().0 = Some(row.amount);
    }
    for row in within(shadow).chain(within(opening)) {
        let sum = RebuildError::Sum(row.key.clone());
        let should = &mut rows.entry(row.key).or_default().1;
        *should = should.checked_add(row.amount).ok_or(sum)?;
    }
    Ok(rows.into_iter().map(|(key, (has, should_have))| Compared { key, has, should_have }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(rows: &[(&str, &str)]) -> Vec<Balance> {
        rows.iter()
            .map(|(key, amount)| Balance {
                key: (*key).to_owned(),
                amount: amount.parse().expect("a number"),
            })
            .collect()
    }

    #[test]
    fn a_view_should_have_its_opening_and_what_the_log_makes() {
        let sides = [
            side(&[("a", "3"), ("b", "1")]),
            side(&[("a", "1"), ("c", "2.5")]),
            side(&[("a", "2"), ("b", "1")]),
        ];
        let last = page_end(&sides).expect("rows");
        let rows = merge(sides, &last).expect("sums");
        let found: Vec<(&str, bool)> =
            rows.iter().map(|row| (row.key.as_str(), row.has == Some(row.should_have))).collect();
        assert_eq!(found, [("a", true), ("b", true), ("c", false)]);
        assert_eq!(
            rows[2],
            Compared { key: "c".to_owned(), has: None, should_have: "2.5".parse().expect("a number") }
        );
    }
}

//! Compares a ledger with the log, key by key. A repair adds the amounts that are missing. Amounts that the table
//! held before the view began are part of the expected balances.

use std::collections::BTreeMap;
use std::sync::Arc;

use event::Decimal;
use event::limits::REBUILD_ROWS_MAX;

use super::{Context, Difference, RebuildError, Report, ShadowFold};
use crate::store::{Cell, Plan, StoreError, Verb, Write};
use crate::views::{Balance, Ledger};

/// The comparison of a view's ledger with its shadow, which is the result of folding the log.
pub struct LedgerComparison<'f> {
    pub fold: &'f ShadowFold<'f>,
    pub view: &'f Ledger,
    pub shadow: &'f Ledger,
}

/// Returns the ledger under whose name a missing table is rebuilt.
pub fn rebuilt_ledger(ledger: &Ledger, view: &str) -> Ledger {
    ledger.in_table(&format!("millrace_rebuilt_{view}"))
}

/// The balance that a key has, and the balance that it should have.
#[derive(Clone, Debug, PartialEq, Eq)]
struct KeyBalances {
    key: String,
    has: Option<Decimal>,
    should_have: Decimal,
}

impl LedgerComparison<'_> {
    pub fn compare(&self, repair: bool, report: &mut Report) -> Result<(), RebuildError> {
        let target = if repair { Some(self.target()?) } else { None };
        self.differences(target.as_ref(), report)?;
        failpoint::hit("rebuild.mended");
        match target {
            Some(target) => self.install(&target),
            None => Ok(()),
        }
    }

    /// Returns the ledger to repair. A missing table is rebuilt under another name. Under the view's own name, a
    /// crash could leave an incomplete table that the view would use.
    fn target(&self) -> Result<Ledger, RebuildError> {
        let Context { runtime, store, .. } = self.fold.context;
        match runtime.block_on(self.view.balances(store, None, 1)) {
            Ok(_) => return Ok(self.view.clone()),
            Err(StoreError::NoTable(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let target = rebuilt_ledger(self.view, &self.fold.context.view.view.name);
        runtime.block_on(store.make_table(target.table().as_ref().clone()))?;
        Ok(target)
    }

    /// Renames a rebuilt table to the view's own name.
    fn install(&self, target: &Ledger) -> Result<(), RebuildError> {
        let [made, wanted] = [target, self.view].map(|ledger| ledger.table().as_ref().clone());
        if made.name != wanted.name {
            self.fold.context.runtime.block_on(self.fold.context.store.replace_tables(&[made], &[wanted]))?;
        }
        Ok(())
    }

    /// Adds the missing amounts, under the view's claim. Repeated after a crash, it adds what is still missing.
    fn add_missing(
        &self,
        target: &Ledger,
        position: u64,
        differences: &[KeyBalances],
    ) -> Result<(), RebuildError> {
        let claim = self.fold.definitions.claim(self.fold.context, position);
        let mut cells = Vec::with_capacity(differences.len() * 2);
        for difference in differences {
            let missing = difference.should_have.checked_sub(difference.has.unwrap_or_default());
            let missing = missing.ok_or_else(|| RebuildError::Sum(difference.key.clone()))?;
            cells.extend([Cell::Text(difference.key.clone()), Cell::Decimal(missing)]);
        }
        let mut plan = Plan::new(claim);
        plan.writes.push(Write { table: target.table(), verb: Verb::Add, cells });
        self.fold.context.runtime.block_on(self.fold.context.store.apply(Arc::new(plan)))?;
        failpoint::hit("rebuild.page_mended");
        Ok(())
    }

    /// Compares the view with the sum of its opening and its shadow, page by page in the order of keys.
    fn differences(&self, target: Option<&Ledger>, report: &mut Report) -> Result<(), RebuildError> {
        let mut after: Option<String> = None;
        loop {
            self.fold.context.fail_if_stopped()?;
            let sides = [
                self.rows(self.view, after.as_deref())?,
                self.rows(self.shadow, after.as_deref())?,
                self.opening(after.as_deref())?,
            ];
            let Some(last) = page_end(&sides) else { break };
            let page = merge(sides, &last)?;
            report.keys += page.len() as u64;
            let found: Vec<KeyBalances> =
                page.into_iter().filter(|row| row.has != Some(row.should_have)).collect();
            if let (Some(target), false) = (target, found.is_empty()) {
                self.add_missing(target, report.position, &found)?;
            }
            for KeyBalances { key, has, should_have } in found {
                let has = has.map(|amount| amount.to_string());
                report.note(Difference { key, has, should_have: should_have.to_string() });
            }
            after = Some(last);
        }
        Ok(())
    }

    /// Returns a page of a ledger. A missing table has no rows.
    fn rows(&self, ledger: &Ledger, after: Option<&str>) -> Result<Vec<Balance>, RebuildError> {
        match self.fold.context.runtime.block_on(ledger.balances(
            self.fold.context.store,
            after,
            REBUILD_ROWS_MAX,
        )) {
            Err(StoreError::NoTable(_)) => Ok(Vec::new()),
            read => Ok(read?),
        }
    }

    fn opening(&self, after: Option<&str>) -> Result<Vec<Balance>, RebuildError> {
        let view = &self.fold.context.view.view.name;
        let mut parameters = vec![Cell::Text(view.clone())];
        parameters.extend(after.map(|after| Cell::Text(after.to_owned())));
        let beyond = if after.is_some() { "AND row_key > ?" } else { "" };
        let sql = format!(
            "SELECT row_key, amount FROM millrace_opening WHERE view = ? {beyond} ORDER BY row_key LIMIT {REBUILD_ROWS_MAX}"
        );
        let rows = self.fold.context.runtime.block_on(self.fold.context.store.rows(sql, parameters))?;
        let balance = |row: Vec<Cell>| match <[Cell; 2]>::try_from(row) {
            Ok([Cell::Text(key), cell]) => match (cell.decimal(), cell) {
                (Some(amount), _) => Ok(Balance { key, amount }),
                (None, Cell::Text(amount)) => Err(RebuildError::Opening { view: view.clone(), key, amount }),
                (None, _) => Err(corrupt_row()),
            },
            _ => Err(corrupt_row()),
        };
        rows.into_iter().map(balance).collect()
    }
}

fn corrupt_row() -> RebuildError {
    StoreError::Blocked("table `millrace_opening` contains a row that millrace cannot decode".to_owned())
        .into()
}

/// Returns the last key up to which all sides have been read: the smallest last key of the full pages. Returns `None`
/// at the end.
fn page_end(sides: &[Vec<Balance>; 3]) -> Option<String> {
    let full = sides
        .iter()
        .filter(|side| side.len() == REBUILD_ROWS_MAX)
        .filter_map(|side| side.last())
        .map(|row| &row.key)
        .min();
    full.or_else(|| sides.iter().filter_map(|side| side.last()).map(|row| &row.key).max()).cloned()
}

fn merge([view, shadow, opening]: [Vec<Balance>; 3], last: &str) -> Result<Vec<KeyBalances>, RebuildError> {
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
    Ok(rows.into_iter().map(|(key, (has, should_have))| KeyBalances { key, has, should_have }).collect())
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
    fn a_balance_should_be_its_opening_plus_the_result_of_the_log() {
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
            KeyBalances { key: "c".to_owned(), has: None, should_have: "2.5".parse().expect("a number") }
        );
    }
}

//! A ledger beside what the log makes: balances are compared key by key, and what is missing is added. What
//! its table held before the view began counts as it was.

use std::collections::BTreeMap;
use std::sync::Arc;

use event::Decimal;
use event::limits::REBUILD_ROWS_MAX;
use journal::failpoint;

use super::{Difference, Fresh, RebuildError, Report};
use crate::store::{Cell, Claim, Plan, StoreError, Verb, Write};
use crate::views::{Balance, Ledger};

/// The view's table, and the one that the log was folded into.
pub struct Sides<'f> {
    pub fresh: &'f Fresh<'f>,
    pub view: &'f Ledger,
    pub shadow: &'f Ledger,
}

/// Where a table that is gone is made anew.
pub fn made_anew(ledger: &Ledger, view: &str) -> Ledger {
    ledger.in_table(&format!("millrace_rebuilt_{view}"))
}

/// What one key has and should have.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Compared {
    key: String,
    has: Option<Decimal>,
    should_have: Decimal,
}

impl Sides<'_> {
    pub fn compare(&self, mend: bool, report: &mut Report) -> Result<(), RebuildError> {
        let target = if mend { Some(self.target()?) } else { None };
        self.differences(target.as_ref(), report)?;
        failpoint::hit("rebuild.mended");
        match target {
            Some(target) => self.put_in_place(&target),
            None => Ok(()),
        }
    }

    /// Where differences are written. A table that is gone is made under another name: one that is there
    /// and not whole yet would be taken for the view's own after a crash.
    fn target(&self) -> Result<Ledger, RebuildError> {
        let Fresh { runtime, store, .. } = self.fresh;
        match runtime.block_on(self.view.balances(store, None, 1)) {
            Ok(_) => return Ok(self.view.clone()),
            Err(StoreError::NoTable(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let target = made_anew(self.view, &self.fresh.view.view.name);
        runtime.block_on(store.make_table(target.table().as_ref().clone()))?;
        Ok(target)
    }

    fn put_in_place(&self, target: &Ledger) -> Result<(), RebuildError> {
        let [made, wanted] = [target, self.view].map(|ledger| ledger.table().as_ref().clone());
        if made.name != wanted.name {
            self.fresh.runtime.block_on(self.fresh.store.put_in_place(&[made], &[wanted]))?;
        }
        Ok(())
    }

    /// Under the view's claim. Done again after a crash, it adds what is still missing.
    fn mend(&self, target: &Ledger, position: u64, differences: &[Compared]) -> Result<(), RebuildError> {
        let Fresh { view, log, .. } = self.fresh;
        let claim = Claim { view: view.view.name.clone(), log: log.id(), from: position, to: position };
        let mut cells = Vec::with_capacity(differences.len() * 2);
        for difference in differences {
            let missing = difference.should_have.checked_sub(difference.has.unwrap_or_default());
            let missing = missing.ok_or_else(|| RebuildError::Sum(difference.key.clone()))?;
            cells.extend([Cell::Text(difference.key.clone()), Cell::Decimal(missing)]);
        }
        let mut plan = Plan::new(claim);
        plan.writes.push(Write { table: target.table(), verb: Verb::Add, cells });
        self.fresh.runtime.block_on(self.fresh.store.apply(Arc::new(plan)))?;
        failpoint::hit("rebuild.page_mended");
        Ok(())
    }

    /// Walks the view, its opening and its shadow together, in the order of their keys, a page at a time.
    fn differences(&self, target: Option<&Ledger>, report: &mut Report) -> Result<(), RebuildError> {
        let mut after: Option<String> = None;
        loop {
            self.fresh.go_on()?;
            let sides = [
                self.rows(self.view, after.as_deref())?,
                self.rows(self.shadow, after.as_deref())?,
                self.opening(after.as_deref())?,
            ];
            let Some(last) = page_end(&sides) else { break };
            let page = merge(sides, &last)?;
            report.keys += page.len() as u64;
            let found: Vec<Compared> =
                page.into_iter().filter(|row| row.has != Some(row.should_have)).collect();
            if let (Some(target), false) = (target, found.is_empty()) {
                self.mend(target, report.position, &found)?;
            }
            for Compared { key, has, should_have } in found {
                let has = has.map(|amount| amount.to_string());
                report.note(Difference { key, has, should_have: should_have.to_string() });
            }
            after = Some(last);
        }
        Ok(())
    }

    /// A table that is not there has no rows.
    fn rows(&self, ledger: &Ledger, after: Option<&str>) -> Result<Vec<Balance>, RebuildError> {
        match self.fresh.runtime.block_on(ledger.balances(self.fresh.store, after, REBUILD_ROWS_MAX)) {
            Err(StoreError::NoTable(_)) => Ok(Vec::new()),
            read => Ok(read?),
        }
    }

    fn opening(&self, after: Option<&str>) -> Result<Vec<Balance>, RebuildError> {
        let view = &self.fresh.view.view.name;
        let mut parameters = vec![Cell::Text(view.clone())];
        parameters.extend(after.map(|after| Cell::Text(after.to_owned())));
        let beyond = if after.is_some() { "AND row_key > ?" } else { "" };
        let sql = format!(
            "SELECT row_key, amount FROM millrace_opening WHERE view = ? {beyond} ORDER BY row_key LIMIT {REBUILD_ROWS_MAX}"
        );
        let rows = self.fresh.runtime.block_on(self.fresh.store.rows(sql, parameters))?;
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
    StoreError::Blocked("table `millrace_opening` holds a row that is not in its form".to_owned()).into()
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

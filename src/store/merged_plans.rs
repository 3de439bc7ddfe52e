//! Merges consecutive plans that only add to rows. A view that is behind therefore applies larger batches when its
//! store is slower.

use std::cmp::Ordering;

use super::cell::Cell;
use super::plan::{Plan, Verb, Write};

impl Plan {
    /// Returns whether the plan adds to rows and does nothing else.
    pub fn only_adds(&self) -> bool {
        let Self { writes, rows, notifications, seen, dead_letters, corrected, .. } = self;
        let adds = |write: &Write| matches!(write.verb, Verb::Add | Verb::Tally);
        let has_rows = !writes.is_empty();
        has_rows
            && writes.iter().all(adds)
            && rows.is_none()
            && notifications.is_none()
            && seen.is_empty()
            && dead_letters.is_empty()
            && corrected.is_empty()
    }

    /// Returns whether `later`, the plan that follows this one, can be merged into it: both only add to rows, in the
    /// same tables.
    pub fn can_merge(&self, later: &Self) -> bool {
        let into = |plan: &Self| {
            let writes = plan.writes.iter().map(|write| (write.table.name.clone(), write.verb));
            (writes.collect::<Vec<_>>(), plan.visits.as_ref().map(|visits| visits.members.name.clone()))
        };
        self.only_adds() && later.only_adds() && into(self) == into(later)
    }

    /// Merges `later` into this plan. The rows of both are ordered by key.
    pub fn merge(&mut self, later: Self) {
        self.claim.to = later.claim.to;
        for (write, more) in self.writes.iter_mut().zip(later.writes) {
            let ours = std::mem::take(&mut write.cells);
            write.cells = sums(write, ours, more.cells);
        }
        if let (Some(visits), Some(later)) = (&mut self.visits, later.visits) {
            visits.merge(later);
        }
    }
}

/// Merges the rows of two writes by key and adds the numbers of equal keys. A balance of 0 stays a row. A count of 0
/// is left out: a database server would keep it as a row.
fn sums(write: &Write, ours: Vec<Cell>, theirs: Vec<Cell>) -> Vec<Cell> {
    let (width, key) = (write.table.columns.len(), 0..write.table.key_columns);
    let mut cells = Vec::with_capacity(ours.len().max(theirs.len()));
    let (mut ours, mut theirs) = (ours.into_iter(), theirs.into_iter());
    while let (Some(one), Some(other)) =
        (ours.as_slice().get(key.clone()), theirs.as_slice().get(key.clone()))
    {
        match one.cmp(other) {
            Ordering::Less => cells.extend(ours.by_ref().take(width)),
            Ordering::Greater => cells.extend(theirs.by_ref().take(width)),
            Ordering::Equal => {
                let pairs = ours.by_ref().zip(theirs.by_ref()).take(width).enumerate();
                cells.extend(pairs.map(|(column, (one, other))| {
                    if column < key.end {
                        one
                    } else {
                        sum(&one, &other).expect("amounts and counts in a plan are bounded")
                    }
                }));
                if write.verb != Verb::Add && cells.last() == Some(&Cell::Integer(0)) {
                    cells.truncate(cells.len() - width);
                }
            }
        }
    }
    cells.extend(ours);
    cells.extend(theirs);
    cells
}

fn sum(one: &Cell, other: &Cell) -> Option<Cell> {
    match (one, other) {
        (Cell::Decimal(one), Cell::Decimal(other)) => one.checked_add(*other).map(Cell::Decimal),
        (Cell::Integer(one), Cell::Integer(other)) => one.checked_add(*other).map(Cell::Integer),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use event::LogId;

    use super::*;
    use crate::store::plan::{Claim, CorrectedEvent};
    use crate::store::tables::{ColumnKind, Table};
    use crate::store::visits::{MEMBER_BYTES, Visit, Visits};

    fn plan(from: u64, to: u64, write: Write) -> Plan {
        let claim = Claim { view: "v".to_owned(), log: LogId([0; 16]), from, to, definition: None };
        Plan { writes: vec![write], ..Plan::new(claim) }
    }

    const TEXT: ColumnKind = ColumnKind::Text { chars_max: 9 };

    fn amounts(rows: &[(&str, &str)]) -> Write {
        let table = Table::new("t", 1, &[("who", TEXT), ("sum", ColumnKind::Decimal)]);
        let cells = rows.iter().flat_map(|(who, sum)| {
            [Cell::Text((*who).to_owned()), Cell::Decimal(sum.parse().expect("a number"))]
        });
        Write { table: Arc::new(table), verb: Verb::Add, cells: cells.collect() }
    }

    fn counts(rows: &[(&str, i64)]) -> Write {
        let table = Table::new("t", 1, &[("what", TEXT), ("n", ColumnKind::Integer)]);
        let cells = rows.iter().flat_map(|(what, n)| [Cell::Text((*what).to_owned()), Cell::Integer(*n)]);
        Write { table: Arc::new(table), verb: Verb::Tally, cells: cells.collect() }
    }

    fn merged(one: Write, other: Write) -> Plan {
        let (mut one, other) = (plan(3, 7, one), plan(7, 12, other));
        assert!(one.can_merge(&other));
        one.merge(other);
        assert_eq!((one.claim.from, one.claim.to), (3, 12));
        one
    }

    #[test]
    fn merged_plans_do_what_both_would_do() {
        let ours = amounts(&[("a", "1"), ("c", "2.5"), ("d", "3"), ("e", "-5")]);
        let theirs = amounts(&[("b", "-4"), ("c", "-0.5"), ("e", "5")]);
        let both = amounts(&[("a", "1"), ("b", "-4"), ("c", "2"), ("d", "3"), ("e", "0")]);
        assert_eq!(merged(ours, theirs).writes[0].cells, both.cells);
        assert_eq!(merged(both.clone(), amounts(&[])).writes[0].cells, both.cells);
        assert_eq!(merged(amounts(&[]), both.clone()).writes[0].cells, both.cells);
    }

    #[test]
    fn a_count_that_sums_to_zero_is_not_written() {
        let both = merged(counts(&[("a", 1), ("b", 2)]), counts(&[("a", -1), ("b", 1), ("c", 4)]));
        assert_eq!(both.writes[0].cells, counts(&[("b", 3), ("c", 4)]).cells);
    }

    /// Builds a plan with one visit of `member` to the table `members`.
    fn visiting(from: u64, to: u64, members: &str, member: u8) -> Plan {
        let table = |name: &str| Arc::new(Table::new(name, 2, &[]));
        let visit = Visit { member: [member; MEMBER_BYTES], day: 1, added: 1, group: [].into() };
        let visits = Visits::new(&table(members), &table("gaps"), vec![visit]);
        Plan { visits: Some(visits), ..plan(from, to, counts(&[("a", 1)])) }
    }

    #[test]
    fn the_visits_of_both_plans_are_kept() {
        let (mut one, other) = (visiting(3, 7, "m", 1), visiting(7, 12, "m", 2));
        assert!(one.can_merge(&other));
        one.merge(other);
        let members: Vec<u8> =
            one.visits.iter().flat_map(Visits::changes).map(|visit| visit.member[0]).collect();
        assert_eq!(members, [1, 2]);
        assert!(!one.can_merge(&visiting(12, 13, "other", 2)), "another table of members");
        assert!(!one.can_merge(&plan(12, 13, counts(&[("a", 1)]))), "one without visits");
    }

    #[test]
    fn plans_that_do_more_than_add_are_not_merged() {
        let some = || plan(3, 7, counts(&[("a", 1)]));
        let empty = Plan::new(some().claim);
        assert!(!some().can_merge(&empty) && !empty.can_merge(&some()) && !empty.only_adds());
        assert!(!some().can_merge(&plan(7, 9, amounts(&[]))), "same table, other verb");
        let corrected = CorrectedEvent { position: 3, by: 4 };
        let corrects = Plan { corrected: vec![corrected], ..some() };
        assert!(!corrects.only_adds() && !some().can_merge(&corrects));
    }
}

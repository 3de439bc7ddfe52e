//! Plans one after the other that become one, because all they do is to add: so a view that is behind takes
//! the larger batches the slower its store is.

use std::cmp::Ordering;

use super::plan::{Plan, Verb, Write};
use super::tables::Cell;

impl Plan {
    /// Whether its rows are sums, and nothing else is in it.
    pub fn only_adds(&self) -> bool {
        let Self { writes, rows, seen, dead_letters, corrected, .. } = self;
        let adds = |write: &Write| matches!(write.verb, Verb::Add | Verb::Tally | Verb::Visit);
        let has_rows = !writes.is_empty();
        has_rows
            && writes.iter().all(adds)
            && rows.is_none()
            && seen.is_empty()
            && dead_letters.is_empty()
            && corrected.is_empty()
    }

    /// Whether the plan that follows this one may become a part of it: both only add, and to the same tables.
    pub fn takes_in(&self, later: &Self) -> bool {
        let into = |plan: &Self| {
            plan.writes.iter().map(|write| (write.table.name.clone(), write.verb)).collect::<Vec<_>>()
        };
        self.only_adds() && later.only_adds() && into(self) == into(later)
    }

    /// Takes it in; rows are in the order of keys.
    pub fn join(&mut self, later: Self) {
        self.claim.to = later.claim.to;
        for (write, more) in self.writes.iter_mut().zip(later.writes) {
            let ours = std::mem::take(&mut write.cells);
            write.cells = sums(write, ours, more.cells);
        }
    }
}

/// The rows of both, in the order of keys, those with one key added up. A balance of 0 is a row; what is counted
/// and comes to 0 is none, and counted as such a database on a server would keep it.
fn sums(write: &Write, ours: Vec<Cell>, theirs: Vec<Cell>) -> Vec<Cell> {
    let (width, key) = (write.width(), write.key());
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
                cells.extend(pairs.map(|(column, (one, other))| match column < key.end {
                    true => one,
                    false => sum(&one, &other).expect("what is added is a bounded number"),
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
    use crate::store::tables::{ColumnKind, DayGaps, DerivedIndex, Table};

    fn plan(from: u64, to: u64, write: Write) -> Plan {
        let claim = Claim { view: "v".to_owned(), log: LogId([0; 16]), from, to };
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

    /// Group, member, day, number.
    fn visits(rows: &[(&str, u8, i64, i64)]) -> Write {
        let integer = ColumnKind::Integer;
        let spans =
            Table::new("s", 3, &[("grp", TEXT), ("day", integer), ("before", integer), ("n", integer)]);
        let member = ColumnKind::Bytes { bytes_max: 1 };
        let table = Table::new("t", 2, &[("member", member), ("day", integer), ("n", integer)])
            .with(DerivedIndex::DayGaps(DayGaps { table: Arc::new(spans) }));
        let cells = rows.iter().flat_map(|(group, member, day, n)| {
            let group = Cell::Text((*group).to_owned());
            [group, Cell::Bytes(vec![*member]), Cell::Integer(*day), Cell::Integer(*n)]
        });
        Write { table: Arc::new(table), verb: Verb::Visit, cells: cells.collect() }
    }

    fn joined(one: Write, other: Write) -> Plan {
        let (mut one, other) = (plan(3, 7, one), plan(7, 12, other));
        assert!(one.takes_in(&other));
        one.join(other);
        assert_eq!((one.claim.from, one.claim.to), (3, 12));
        one
    }

    #[test]
    fn joined_plans_do_what_both_would() {
        let ours = amounts(&[("a", "1"), ("c", "2.5"), ("d", "3"), ("e", "-5")]);
        let theirs = amounts(&[("b", "-4"), ("c", "-0.5"), ("e", "5")]);
        let both = amounts(&[("a", "1"), ("b", "-4"), ("c", "2"), ("d", "3"), ("e", "0")]);
        assert_eq!(joined(ours, theirs).writes[0].cells, both.cells);
        assert_eq!(joined(both.clone(), amounts(&[])).writes[0].cells, both.cells);
        assert_eq!(joined(amounts(&[]), both.clone()).writes[0].cells, both.cells);
    }

    #[test]
    fn what_was_counted_and_comes_to_nothing_is_no_row() {
        let both = joined(counts(&[("a", 1), ("b", 2)]), counts(&[("a", -1), ("b", 1), ("c", 4)]));
        assert_eq!(both.writes[0].cells, counts(&[("b", 3), ("c", 4)]).cells);
    }

    #[test]
    fn visits_are_joined_by_member_and_day_whatever_their_groups() {
        let ours = visits(&[("z", 1, 5, 1), ("a", 2, 5, 1), ("z", 4, 5, 2)]);
        let theirs = visits(&[("z", 1, 5, 2), ("z", 1, 6, 1), ("a", 3, 5, 1), ("z", 4, 5, -2)]);
        let both = visits(&[("z", 1, 5, 3), ("z", 1, 6, 1), ("a", 2, 5, 1), ("a", 3, 5, 1)]);
        assert_eq!(joined(ours, theirs).writes[0].cells, both.cells);
    }

    #[test]
    fn plans_that_do_anything_else_stay_by_themselves() {
        let some = || plan(3, 7, counts(&[("a", 1)]));
        let empty = Plan::new(some().claim);
        assert!(!some().takes_in(&empty) && !empty.takes_in(&some()) && !empty.only_adds());
        assert!(!some().takes_in(&plan(7, 9, amounts(&[]))), "the same table by another verb");
        let mut removes = some();
        removes.writes[0].verb = Verb::Remove;
        assert!(!removes.only_adds() && !some().takes_in(&removes));
        let corrected = CorrectedEvent { position: 3, by: 4 };
        let corrects = Plan { corrected: vec![corrected], ..some() };
        assert!(!corrects.only_adds() && !some().takes_in(&corrects));
    }
}

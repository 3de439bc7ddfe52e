//! Plans one after the other that become one, because all they do is to add: so a view that is behind takes
//! the larger batches the slower its store is.

use std::cmp::Ordering;

use super::plan::{Plan, Verb, Write};
use super::tables::{Cell, Table};

impl Plan {
    /// Whether its rows are sums, and nothing else is in it.
    pub fn only_adds(&self) -> bool {
        let Self { writes, rows, seen, letters, taken_back, .. } = self;
        let all_add = writes.iter().all(|write| write.verb == Verb::Add);
        let has_rows = !writes.is_empty();
        has_rows
            && all_add
            && rows.is_none()
            && seen.is_empty()
            && letters.is_empty()
            && taken_back.is_empty()
    }

    /// Whether the plan that follows this one may become a part of it: both only add, and to the same tables.
    pub fn takes_in(&self, later: &Self) -> bool {
        let tables =
            |plan: &Self| plan.writes.iter().map(|write| write.table.name.clone()).collect::<Vec<_>>();
        self.only_adds() && later.only_adds() && tables(self) == tables(later)
    }

    /// Takes it in; rows are in the order of keys.
    pub fn join(&mut self, later: Self) {
        self.claim.to = later.claim.to;
        for (write, more) in self.writes.iter_mut().zip(later.writes) {
            let Write { table, cells, .. } = write;
            *cells = sums(table, std::mem::take(cells), more.cells);
        }
    }
}

/// The rows of both, in the order of keys, those with one key added up.
fn sums(table: &Table, ours: Vec<Cell>, theirs: Vec<Cell>) -> Vec<Cell> {
    let (width, key) = (table.columns.len(), table.key_columns);
    let mut cells = Vec::with_capacity(ours.len().max(theirs.len()));
    let (mut ours, mut theirs) = (ours.into_iter(), theirs.into_iter());
    while let (Some(one), Some(other)) = (ours.as_slice().get(..key), theirs.as_slice().get(..key)) {
        match one.cmp(other) {
            Ordering::Less => cells.extend(ours.by_ref().take(width)),
            Ordering::Greater => cells.extend(theirs.by_ref().take(width)),
            Ordering::Equal => {
                let pairs = ours.by_ref().zip(theirs.by_ref()).take(width).enumerate();
                cells.extend(pairs.map(|(column, (one, other))| match column < key {
                    true => one,
                    false => sum(&one, &other).expect("what is added is a bounded number"),
                }));
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
    use crate::store::plan::Claim;
    use crate::store::tables::ColumnKind;

    fn plan(from: u64, to: u64, rows: &[(&str, &str)]) -> Plan {
        let text = ColumnKind::Text { chars_max: 9 };
        let table = Table::new("t", 1, &[("who", text), ("sum", ColumnKind::Decimal)]);
        let cells = rows.iter().flat_map(|(who, sum)| {
            [Cell::Text((*who).to_owned()), Cell::Decimal(sum.parse().expect("a number"))]
        });
        let claim = Claim { view: "v".to_owned(), log: LogId([0; 16]), from, to };
        let write = Write { table: Arc::new(table), verb: Verb::Add, cells: cells.collect() };
        Plan { writes: vec![write], ..Plan::new(claim) }
    }

    #[test]
    fn joined_plans_do_what_both_would() {
        let mut joined = plan(3, 7, &[("a", "1"), ("c", "2.5"), ("d", "3")]);
        joined.join(plan(7, 12, &[("b", "-4"), ("c", "-0.5"), ("e", "5")]));
        let expected = plan(3, 12, &[("a", "1"), ("b", "-4"), ("c", "2"), ("d", "3"), ("e", "5")]);
        assert_eq!((joined.claim.from, joined.claim.to), (3, 12));
        assert_eq!(joined.writes[0].cells, expected.writes[0].cells);
        joined.join(plan(12, 13, &[]));
        assert_eq!(joined.writes[0].cells, expected.writes[0].cells);
        assert!(joined.takes_in(&plan(13, 14, &[])));
        // Of neither could the rows of the other be a part.
        let empty = Plan::new(plan(13, 14, &[]).claim);
        assert!(!joined.takes_in(&empty) && !empty.takes_in(&joined) && !empty.only_adds());
        joined.writes[0].verb = Verb::Remove;
        assert!(!joined.only_adds());
    }
}

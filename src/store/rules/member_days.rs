//! Distinct members by day: which days of which members appear or disappear, and how that changes the gaps between a
//! member's days.

use super::begin::owner_name;
use crate::store::StoreError;
use crate::store::day_gaps::Changes;
use crate::store::plan::Write;
use crate::store::session::Session;
use crate::store::tables::{Cell, DerivedIndex};

/// A day of a member that appeared (change 1) or disappeared (change -1), with the member's neighbouring days.
#[derive(Clone, Copy, Debug)]
struct DayChange<'w> {
    group: &'w [Cell],
    member: &'w Cell,
    day: i64,
    change: i64,
    before: Option<i64>,
    after: Option<i64>,
}

/// Applies visits to the table of members and to the table of day gaps.
pub async fn apply(session: &mut impl Session, write: &Write) -> Result<(), StoreError> {
    let table = write.table.as_ref();
    let DerivedIndex::DayGaps(gaps) = &table.derived_index else {
        panic!("visits are written to a table with day gaps")
    };
    // The lock keeps other nodes from changing what is read here before the result is written.
    session.lock_row(&owner_name(&table.name)).await?;
    let (groups, visits): (Vec<&[Cell]>, Vec<&[Cell]>) =
        write.rows().map(|row| row.split_at(gaps.group_columns())).unzip();
    let numbers_before = session.tally_before(table, &visits.concat()).await?;
    let mut day_changes = Vec::new();
    for ((group, visit), was) in groups.into_iter().zip(visits).zip(numbers_before) {
        let [member, Cell::Integer(day), Cell::Integer(added)] = visit else {
            panic!("a visit is a member, a day and a number")
        };
        let change = match (was, was + added) {
            (0, 0) => continue,
            (0, _) => 1,
            (_, 0) => -1,
            _ => continue,
        };
        day_changes.push(DayChange { group, member, day: *day, change, before: None, after: None });
    }
    if day_changes.is_empty() {
        return Ok(());
    }
    day_changes.sort_by(|one, other| (one.member, one.day).cmp(&(other.member, other.day)));
    let keys: Vec<Cell> =
        day_changes.iter().flat_map(|one| [one.member.clone(), Cell::Integer(one.day)]).collect();
    let neighbours = session.neighbours(table, &keys).await?;
    for (one, (before, after)) in day_changes.iter_mut().zip(neighbours) {
        (one.before, one.after) = (before, after);
    }
    undo_later_changes(&mut day_changes);
    let mut changes = Changes::default();
    for one in &day_changes {
        changes.record(one.group, one.change, one.before, one.day, one.after);
    }
    let cells: Vec<Cell> = changes.rows().flatten().collect();
    if cells.is_empty() { Ok(()) } else { session.tally(&gaps.table, &cells).await }
}

/// Corrects the day after each change, sorted by member and day. Changes are recorded in the order of days, each as if the later ones had not
/// happened yet, but the neighbours were read when all of them had.
fn undo_later_changes(day_changes: &mut [DayChange<'_>]) {
    for index in (1..day_changes.len()).rev() {
        let (earlier, later) = day_changes.split_at_mut(index);
        let (one, next) = (&mut earlier[index - 1], &later[0]);
        if one.member != next.member {
            continue;
        }
        one.after = match next.change {
            // The next day did not exist before.
            1 if one.after == Some(next.day) => next.after,
            1 => one.after,
            // The next day existed before.
            _ => Some(one.after.map_or(next.day, |after| after.min(next.day))),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn pairs(days: &BTreeSet<i64>) -> BTreeMap<(i64, i64), i64> {
        let before = std::iter::once(0).chain(days.iter().copied());
        let mut pairs: BTreeMap<(i64, i64), i64> =
            days.iter().copied().zip(before).map(|pair| (pair, 1)).collect();
        if !days.is_empty() {
            pairs.insert((0, 0), 1);
        }
        pairs
    }

    proptest::proptest! {
        #[test]
        fn days_added_and_removed_together_leave_the_gaps_of_the_remaining_days(
            existing in proptest::collection::btree_set(1_i64..12, 0..8),
            toggled in proptest::collection::btree_set(1_i64..12, 1..8),
        ) {
            let now: BTreeSet<i64> = existing.symmetric_difference(&toggled).copied().collect();
            let member = Cell::Text("m".to_owned());
            let mut day_changes: Vec<DayChange<'_>> = toggled
                .iter()
                .map(|day| DayChange {
                    group: &[],
                    member: &member,
                    day: *day,
                    change: if existing.contains(day) { -1 } else { 1 },
                    before: now.range(..*day).next_back().copied(),
                    after: now.range(day + 1..).next().copied(),
                })
                .collect();
            undo_later_changes(&mut day_changes);
            let mut changes = Changes::default();
            for one in &day_changes {
                changes.record(one.group, one.change, one.before, one.day, one.after);
            }
            let mut gaps = pairs(&existing);
            for row in changes.rows() {
                let [Cell::Integer(day), Cell::Integer(before), Cell::Integer(n)] = row.as_slice() else {
                    panic!("{row:?}")
                };
                *gaps.entry((*day, *before)).or_default() += n;
            }
            gaps.retain(|_, n| *n != 0);
            proptest::prop_assert_eq!(gaps, pairs(&now));
        }
    }
}

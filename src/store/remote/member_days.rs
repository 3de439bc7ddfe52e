//! Distinct members by day on a database server. Queries the table for the days of members that appear or disappear,
//! and computes how that changes the gaps between a member's days.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::apply::tally;
use super::session::Session;
use crate::store::StoreError;
use crate::store::day_gaps::Changes;
use crate::store::plan::{Verb, Write};
use crate::store::tables::{Cell, DerivedIndex};

/// A day of a member that appears (change 1) or disappears (change -1), with the member's neighbouring days.
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
pub async fn apply(session: &mut Session, write: &Write) -> Result<(), StoreError> {
    let table = write.table.as_ref();
    let DerivedIndex::DayGaps(gaps) = &table.derived_index else {
        panic!("visits are written to a table with day gaps")
    };
    // The lock keeps other nodes from changing what is read here before the result is written.
    let lock = "SELECT value FROM millrace_meta WHERE name = ? FOR UPDATE";
    session.rows(lock, &[Cell::Text(super::begin::owner_name(&table.name))]).await?;
    let (groups, visits): (Vec<&[Cell]>, Vec<&[Cell]>) =
        write.rows().map(|row| row.split_at(gaps.group_columns())).unzip();
    let mut day_changes = day_changes(session, write, &groups, &visits).await?;
    let cells = visits.concat();
    tally(session, &Write { table: Arc::clone(&write.table), verb: Verb::Tally, cells }).await?;
    update_neighbours(&mut day_changes);
    let mut changes = Changes::default();
    for one in &day_changes {
        changes.record(one.group, one.change, one.before, one.day, one.after);
    }
    let cells: Vec<Cell> = changes.rows().flatten().collect();
    match cells.is_empty() {
        true => Ok(()),
        false => tally(session, &Write { table: Arc::clone(&gaps.table), verb: Verb::Tally, cells }).await,
    }
}

/// Returns the days that appear or disappear, ordered by member and day, with their neighbours in the table.
async fn day_changes<'w>(
    session: &mut Session,
    write: &Write,
    groups: &[&'w [Cell]],
    visits: &[&'w [Cell]],
) -> Result<Vec<DayChange<'w>>, StoreError> {
    let table = write.table.as_ref();
    let keys: Vec<Cell> = visits.iter().flat_map(|visit| &visit[..2]).cloned().collect();
    let mut counts: BTreeMap<(Cell, Cell), i64> = BTreeMap::new();
    for row in session.rows_by_key(table, &keys).await? {
        let Ok([member, day, Cell::Integer(n)]) = <[Cell; 3]>::try_from(row) else {
            let reason = format!("table `{}` contains a row that millrace cannot decode", table.name);
            return Err(StoreError::Blocked(reason));
        };
        counts.insert((member, day), n);
    }
    let mut day_changes = Vec::new();
    let mut changed_keys = Vec::new();
    for (group, visit) in groups.iter().zip(visits) {
        let [member, Cell::Integer(day), Cell::Integer(added)] = visit else {
            panic!("a visit is a member, a day and a number")
        };
        let key = (member.clone(), Cell::Integer(*day));
        let before = counts.get(&key).copied().unwrap_or(0);
        let change = match (before, before + added) {
            (0, 0) => continue,
            (0, _) => 1,
            (_, 0) => -1,
            _ => continue,
        };
        changed_keys.extend([key.0, key.1]);
        day_changes.push(DayChange { group, member, day: *day, change, before: None, after: None });
    }
    if !day_changes.is_empty() {
        let neighbours = session.neighbours(table, &changed_keys).await?;
        for (one, (before, after)) in day_changes.iter_mut().zip(neighbours) {
            (one.before, one.after) = (before, after);
        }
    }
    Ok(day_changes)
}

/// Updates the day before each change with the previous change of the same member. Changes are applied in the order
/// of days, so the day after is still as in the table.
fn update_neighbours(day_changes: &mut [DayChange<'_>]) {
    for next in 1..day_changes.len() {
        let (earlier, later) = day_changes.split_at_mut(next);
        let (last, one) = (&earlier[next - 1], &mut later[0]);
        if last.member != one.member {
            continue;
        }
        one.before = match last.change {
            1 => one.before.max(Some(last.day)),
            _ if one.before == Some(last.day) => last.before,
            _ => one.before,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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
            let member = Cell::Text("m".to_owned());
            let mut day_changes: Vec<DayChange<'_>> = toggled
                .iter()
                .map(|day| DayChange {
                    group: &[],
                    member: &member,
                    day: *day,
                    change: if existing.contains(day) { -1 } else { 1 },
                    before: existing.range(..*day).next_back().copied(),
                    after: existing.range(day + 1..).next().copied(),
                })
                .collect();
            update_neighbours(&mut day_changes);
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
            let now: BTreeSet<i64> = existing.symmetric_difference(&toggled).copied().collect();
            proptest::prop_assert_eq!(gaps, pairs(&now));
        }
    }
}

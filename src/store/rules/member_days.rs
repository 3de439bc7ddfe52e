//! Distinct members by day: which days of which members appear or disappear, and how that changes the gaps between a
//! member's days. A gap is a day of a member and the member's last day before it.

use std::collections::BTreeMap;

use super::begin::owner_name;
use crate::store::StoreError;
use crate::store::cell::Cell;
use crate::store::session::Session;
use crate::store::visits::{Visit, Visits};

/// A day of a member that appeared (change 1) or disappeared (change -1), with the member's neighbouring days.
#[derive(Clone, Copy, Debug)]
struct DayChange<'v> {
    visit: &'v Visit,
    change: i64,
    before: Option<i64>,
    after: Option<i64>,
}

/// Applies visits to the table of members and to the table of day gaps.
pub async fn apply(session: &mut impl Session, visits: &Visits) -> Result<(), StoreError> {
    let (Visits { members, day_gaps, .. }, changes) = (visits, visits.changes());
    // The lock keeps other nodes from changing what is read here before the result is written.
    session.lock_row(&owner_name(&members.name)).await?;
    let key = |visit: &Visit| [Cell::Bytes(visit.member.to_vec()), Cell::Integer(visit.day)];
    let row = |visit: &Visit| key(visit).into_iter().chain([Cell::Integer(visit.added)]);
    let rows: Vec<Cell> = changes.iter().flat_map(row).collect();
    let numbers_before = session.tally_before(members, &rows).await?;
    let mut day_changes = Vec::new();
    for (visit, was) in changes.iter().zip(numbers_before) {
        let change = i64::from(was + visit.added != 0) - i64::from(was != 0);
        if change != 0 {
            day_changes.push(DayChange { visit, change, before: None, after: None });
        }
    }
    if day_changes.is_empty() {
        return Ok(());
    }
    let keys: Vec<Cell> = day_changes.iter().flat_map(|one| key(one.visit)).collect();
    let neighbours = session.neighbours(members, &keys).await?;
    for (one, (before, after)) in day_changes.iter_mut().zip(neighbours) {
        (one.before, one.after) = (before, after);
    }
    undo_later_changes(&mut day_changes);
    let cells: Vec<Cell> = gap_changes(&day_changes).flatten().collect();
    if cells.is_empty() { Ok(()) } else { session.tally(day_gaps, &cells).await }
}

/// Corrects the day after each change. The changes are in the order of members and days, and each is recorded as if the
/// later ones had not happened yet; but the neighbours were read when all of them had.
fn undo_later_changes(day_changes: &mut [DayChange<'_>]) {
    for index in (1..day_changes.len()).rev() {
        let (earlier, later) = day_changes.split_at_mut(index);
        let (one, next) = (&mut earlier[index - 1], &later[0]);
        let next_day = next.visit.day;
        if one.visit.member != next.visit.member {
            continue;
        }
        one.after = match next.change {
            // The next day did not exist before.
            1 if one.after == Some(next_day) => next.after,
            1 => one.after,
            // The next day existed before.
            _ => Some(one.after.map_or(next_day, |after| after.min(next_day))),
        };
    }
}

/// In `before`: the member has no earlier day. In `day`: the row counts all members of the group.
const NO_DAY: i64 = 0;

/// Returns the rows to add to the day-gaps table, in the order of its key: the changes, summed by group, day and the
/// day before.
fn gap_changes<'v>(day_changes: &[DayChange<'v>]) -> impl Iterator<Item = Vec<Cell>> + use<'v> {
    let mut sums: BTreeMap<(&[Cell], i64, i64), i64> = BTreeMap::new();
    for DayChange { visit, change, before, after } in day_changes {
        let mut add = |day: i64, before: i64, n: i64| {
            *sums.entry((&visit.group, day, before)).or_default() += n;
        };
        let earlier = before.unwrap_or(NO_DAY);
        add(visit.day, earlier, *change);
        if let Some(after) = after {
            add(*after, earlier, -change);
            add(*after, visit.day, *change);
        }
        if before.is_none() && after.is_none() {
            add(NO_DAY, NO_DAY, *change);
        }
    }
    sums.into_iter().filter(|(_, n)| *n != 0).map(|((group, day, before), n)| {
        let mut row = group.to_vec();
        row.extend([day, before, n].map(Cell::Integer));
        row
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::store::visits::MEMBER_BYTES;

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
            let visits: Vec<Visit> = toggled
                .iter()
                .map(|day| Visit { member: [1; MEMBER_BYTES], day: *day, added: 0, group: [].into() })
                .collect();
            let mut day_changes: Vec<DayChange<'_>> = visits
                .iter()
                .map(|visit| DayChange {
                    visit,
                    change: if existing.contains(&visit.day) { -1 } else { 1 },
                    before: now.range(..visit.day).next_back().copied(),
                    after: now.range(visit.day + 1..).next().copied(),
                })
                .collect();
            undo_later_changes(&mut day_changes);
            let mut gaps = pairs(&existing);
            for row in gap_changes(&day_changes) {
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

//! Distinct members by days on a database server: which days of which members are new, or are gone, is asked
//! of the table; what that does to the spans between a member's days is worked out here.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::apply::tally;
use super::session::Session;
use crate::store::day_gaps::Changes;
use crate::store::plan::{Verb, Write};
use crate::store::tables::{Cell, DerivedIndex};
use crate::store::{StoreError, corrupt_row};

/// A member's day that came (1) or went (-1), with the days beside it as the table has them.
#[derive(Clone, Copy, Debug)]
struct Turned<'w> {
    group: &'w [Cell],
    member: &'w Cell,
    day: i64,
    came: i64,
    before: Option<i64>,
    after: Option<i64>,
}

pub async fn carry_out(session: &mut Session, write: &Write) -> Result<(), StoreError> {
    let table = write.table.as_ref();
    let DerivedIndex::DayGaps(spans) = &table.derived_index else {
        panic!("visits are written to a table with spans")
    };
    // What is read here must not be changed by another node before it is written.
    let turn = "SELECT value FROM millrace_meta WHERE name = ? FOR UPDATE";
    session.rows(turn, &[Cell::Text(super::begin::owner_name(&table.name))]).await?;
    let (groups, visits): (Vec<&[Cell]>, Vec<&[Cell]>) =
        write.rows().map(|row| row.split_at(spans.group_columns())).unzip();
    let mut turned = turned(session, write, &groups, &visits).await?;
    let cells = visits.concat();
    tally(session, &Write { table: Arc::clone(&write.table), verb: Verb::Tally, cells }).await?;
    look_beside(&mut turned);
    let mut changes = Changes::default();
    for one in &turned {
        changes.note(one.group, one.came, one.before, one.day, one.after);
    }
    let cells: Vec<Cell> = changes.rows().flatten().collect();
    match cells.is_empty() {
        true => Ok(()),
        false => tally(session, &Write { table: Arc::clone(&spans.table), verb: Verb::Tally, cells }).await,
    }
}

/// The days that come or go, in the order of members and days, with their neighbours.
async fn turned<'w>(
    session: &mut Session,
    write: &Write,
    groups: &[&'w [Cell]],
    visits: &[&'w [Cell]],
) -> Result<Vec<Turned<'w>>, StoreError> {
    let table = write.table.as_ref();
    let keys: Vec<Cell> = visits.iter().flat_map(|visit| &visit[..2]).cloned().collect();
    let mut counted: BTreeMap<(Cell, Cell), i64> = BTreeMap::new();
    for row in session.found(table, &keys).await? {
        let Ok([member, day, Cell::Integer(n)]) = <[Cell; 3]>::try_from(row) else {
            return Err(corrupt_row("of members"));
        };
        counted.insert((member, day), n);
    }
    let mut turned = Vec::new();
    let mut asked = Vec::new();
    for (group, visit) in groups.iter().zip(visits) {
        let [member, Cell::Integer(day), Cell::Integer(change)] = visit else {
            panic!("a visit is a member, a day and a number")
        };
        let key = (member.clone(), Cell::Integer(*day));
        let was = counted.get(&key).copied().unwrap_or(0);
        let came = match (was, was + change) {
            (0, 0) => continue,
            (0, _) => 1,
            (_, 0) => -1,
            _ => continue,
        };
        asked.extend([key.0, key.1]);
        turned.push(Turned { group, member, day: *day, came, before: None, after: None });
    }
    if !turned.is_empty() {
        let derived_index = session.neighbours(table, &asked).await?;
        for (one, (before, after)) in turned.iter_mut().zip(derived_index) {
            (one.before, one.after) = (before, after);
        }
    }
    Ok(turned)
}

/// Day after day of a member: what comes or goes first is beside what comes or goes next.
fn look_beside(turned: &mut [Turned<'_>]) {
    for next in 1..turned.len() {
        let (earlier, later) = turned.split_at_mut(next);
        let (last, one) = (&earlier[next - 1], &mut later[0]);
        if last.member != one.member {
            continue;
        }
        one.before = match last.came {
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
        fn days_that_come_and_go_together_leave_the_spans_of_those_that_stay(
            there in proptest::collection::btree_set(1_i64..12, 0..8),
            turns in proptest::collection::btree_set(1_i64..12, 1..8),
        ) {
            let member = Cell::Text("m".to_owned());
            let mut turned: Vec<Turned<'_>> = turns
                .iter()
                .map(|day| Turned {
                    group: &[],
                    member: &member,
                    day: *day,
                    came: if there.contains(day) { -1 } else { 1 },
                    before: there.range(..*day).next_back().copied(),
                    after: there.range(day + 1..).next().copied(),
                })
                .collect();
            look_beside(&mut turned);
            let mut changes = Changes::default();
            for one in &turned {
                changes.note(one.group, one.came, one.before, one.day, one.after);
            }
            let mut spans = pairs(&there);
            for row in changes.rows() {
                let [Cell::Integer(day), Cell::Integer(before), Cell::Integer(n)] = row.as_slice() else {
                    panic!("{row:?}")
                };
                *spans.entry((*day, *before)).or_default() += n;
            }
            spans.retain(|_, n| *n != 0);
            let now: BTreeSet<i64> = there.symmetric_difference(&turns).copied().collect();
            proptest::prop_assert_eq!(spans, pairs(&now));
        }
    }
}

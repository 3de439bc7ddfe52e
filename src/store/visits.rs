//! Visits of members: the part of a plan that counts distinct members in any range of days.

use std::sync::Arc;

use super::cell::Cell;
use super::tables::Table;

/// The length of a member's key.
pub const MEMBER_BYTES: usize = 16;

/// Identifies one member of one group.
pub type MemberKey = [u8; MEMBER_BYTES];

/// The visits that a plan adds or takes back.
#[derive(Clone, Debug)]
pub struct Visits {
    /// Has a row for each member and day, with the number of visits. Its columns are the member's key, the day and
    /// the number. The group is not stored, because a member's key already includes it.
    pub members: Arc<Table>,
    /// Counts, for each group, the members that came on `day` and whose last earlier day was `before` (0 if they
    /// never came before). Its row of day 0 counts all members of the group. Its columns are the group's columns,
    /// `day`, `before` and the number.
    pub day_gaps: Arc<Table>,
    /// In the order of members and days, with at most one change for each member and day.
    changes: Vec<Visit>,
}

/// A member's visits on one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    pub member: MemberKey,
    pub day: i64,
    /// The number of visits to add. Negative if corrections take visits back.
    pub added: i64,
    pub group: Arc<[Cell]>,
}

impl Visits {
    pub fn new(members: &Arc<Table>, day_gaps: &Arc<Table>, changes: Vec<Visit>) -> Self {
        let (members, day_gaps) = (Arc::clone(members), Arc::clone(day_gaps));
        Self { members, day_gaps, changes: summed(changes) }
    }

    pub fn changes(&self) -> &[Visit] {
        &self.changes
    }

    /// Merges the visits of a later plan into these.
    pub fn merge(&mut self, later: Self) {
        self.changes.extend(later.changes);
        self.changes = summed(std::mem::take(&mut self.changes));
    }
}

/// Sorts visits by member and day, and adds up those of the same member and day.
fn summed(mut visits: Vec<Visit>) -> Vec<Visit> {
    // This sort is fast for sorted runs, such as those of two plans.
    visits.sort_by_key(|visit| (visit.member, visit.day));
    visits.dedup_by(|later, kept| {
        let same = (later.member, later.day) == (kept.member, kept.day);
        if same {
            kept.added += later.added;
        }
        same
    });
    visits.retain(|visit| visit.added != 0);
    visits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visits_are_merged_by_member_and_day_across_groups() {
        let visits = |rows: &[(&str, u8, i64, i64)]| -> Vec<Visit> {
            let visit = |(group, member, day, added): &(&str, u8, i64, i64)| Visit {
                member: [*member; MEMBER_BYTES],
                day: *day,
                added: *added,
                group: [Cell::Text((*group).to_owned())].into(),
            };
            rows.iter().map(visit).collect()
        };
        let table = Arc::new(Table::new("t", 2, &[]));
        let of = |rows: &[(&str, u8, i64, i64)]| Visits::new(&table, &table, visits(rows));
        let mut merged = of(&[("z", 4, 5, 2), ("z", 1, 5, 1), ("a", 2, 5, 1)]);
        merged.merge(of(&[("z", 1, 5, 2), ("z", 1, 6, 1), ("a", 3, 5, 1), ("z", 4, 5, -2)]));
        let both = visits(&[("z", 1, 5, 3), ("z", 1, 6, 1), ("a", 2, 5, 1), ("a", 3, 5, 1)]);
        assert_eq!(merged.changes, both);
    }
}

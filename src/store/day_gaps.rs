//! Changes of a day-gaps table (see [`DayGaps`](super::DayGaps)) when a member gains or loses a day. A gap is a day
//! of a member and the member's last day before it.

use std::collections::BTreeMap;

use super::tables::Cell;

/// In `before`: the member has no earlier day. In `day`: the row counts all members of the group.
const NO_DAY: i64 = 0;

/// The changes of a batch, summed by group, day and the day before. Rows of a batch are ordered by member, not by
/// group, so the changes are collected here before they are written.
#[derive(Default)]
pub struct Changes<'w>(BTreeMap<(&'w [Cell], i64, i64), i64>);

impl<'w> Changes<'w> {
    /// Records that a member gained (`came` is 1) or lost (-1) `day`, between the member's neighbouring days.
    pub fn record(
        &mut self,
        group: &'w [Cell],
        came: i64,
        before: Option<i64>,
        day: i64,
        after: Option<i64>,
    ) {
        let mut add = |day: i64, before: i64, n: i64| *self.0.entry((group, day, before)).or_default() += n;
        let earlier = before.unwrap_or(NO_DAY);
        add(day, earlier, came);
        if let Some(after) = after {
            add(after, earlier, -came);
            add(after, day, came);
        }
        if before.is_none() && after.is_none() {
            add(NO_DAY, NO_DAY, came);
        }
    }

    /// Returns the rows to add to the day-gaps table, in the order of its key.
    pub fn rows(self) -> impl Iterator<Item = Vec<Cell>> {
        self.0.into_iter().filter(|(_, n)| *n != 0).map(|((group, day, before), n)| {
            let mut row = group.to_vec();
            row.extend([day, before, n].map(Cell::Integer));
            row
        })
    }
}

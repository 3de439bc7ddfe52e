//! What a member's new day, or one that is gone, does to the spans between the days of its group's members.

use std::collections::BTreeMap;

use super::tables::Cell;

/// Stands for no day before, and for all days.
const NO_DAY: i64 = 0;

/// What changes in the spans, added up before it is written, by group, day and the day before: the rows of a
/// batch are in the order of members, and their groups in none.
#[derive(Default)]
pub struct Changes<'w>(BTreeMap<(&'w [Cell], i64, i64), i64>);

impl<'w> Changes<'w> {
    /// A day that came (1) or went (-1) between two others of a member.
    pub fn note(&mut self, group: &'w [Cell], came: i64, before: Option<i64>, day: i64, after: Option<i64>) {
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

    /// Rows of the spans' table, in the order of its key.
    pub fn rows(self) -> impl Iterator<Item = Vec<Cell>> {
        self.0.into_iter().filter(|(_, n)| *n != 0).map(|((group, day, before), n)| {
            let mut row = group.to_vec();
            row.extend([day, before, n].map(Cell::Integer));
            row
        })
    }
}

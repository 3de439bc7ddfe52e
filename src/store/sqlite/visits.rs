//! Distinct members by days in SQLite. A member's days are rows that lie side by side, so that whoever comes
//! on a new day finds the days before and after it on the same page, and only the spans between them change.

use std::collections::BTreeMap;

use rusqlite::{Connection, params_from_iter};

use super::statements;
use super::tally::Counts;
use crate::store::plan::Write;
use crate::store::tables::{Beside, Cell, Table, quote};

/// Stands for no day before, and for all days.
const NO_DAY: i64 = 0;

pub fn carry_out(connection: &Connection, write: &Write) -> rusqlite::Result<()> {
    let table = write.table.as_ref();
    let Beside::Spans(beside) = &table.beside else { panic!("visits are written to a table with spans") };
    let spans = spans_table(table, &beside.table);
    let group_columns = table.key_columns - 2;
    let mut visits = Counts::of(connection, table)?;
    let mut neighbours = connection.prepare_cached(&neighbours_sql(table))?;
    let mut changes =
        Changes { counts: Counts::of(connection, &spans)?, group: &[], of_group: BTreeMap::new() };
    for row in write.cells.chunks_exact(table.columns.len()) {
        let (was, now) = visits.add(row)?;
        let came = match (was, now) {
            (0, 0) => continue,
            (0, _) => 1,
            (_, 0) => -1,
            _ => continue,
        };
        let key = &row[..table.key_columns];
        let Cell::Integer(day) = key[table.key_columns - 1] else { panic!("a visit's day is a number") };
        let (before, after): (Option<i64>, Option<i64>) =
            neighbours.query_row(params_from_iter(key), |row| Ok((row.get(0)?, row.get(1)?)))?;
        changes.turn_to(&row[..group_columns])?;
        changes.note(came, before, day, after);
    }
    changes.write()
}

/// The table of the spans: group, day, the day before, number.
pub fn spans_table(table: &Table, name: &str) -> Table {
    let (group, last) = table.columns.split_at(table.key_columns - 2);
    let [_, day, number] = last else { panic!("visits are rows of a member, a day and a number") };
    let named = |name: &str| crate::store::Column { name: name.to_owned(), ..day.clone() };
    let columns =
        group.iter().cloned().chain([day.clone(), named("before"), number.clone()]).collect::<Vec<_>>();
    Table {
        name: name.to_owned(),
        key_columns: columns.len() - 1,
        columns,
        id: None,
        unique: None,
        beside: Beside::Nothing,
    }
}

/// The member's last day before one, and its first after it.
fn neighbours_sql(table: &Table) -> String {
    let day = quote(&table.columns[table.key_columns - 1].name);
    let member = statements::equal(&table.columns[..table.key_columns - 1], 1);
    let from = format!("FROM {} WHERE {member} AND {day}", quote(&table.name));
    let this = table.key_columns;
    format!("SELECT (SELECT MAX({day}) {from} < ?{this}), (SELECT MIN({day}) {from} > ?{this})")
}

/// What changes in the spans of one group, added up before it is written.
struct Changes<'c, 'w> {
    counts: Counts<'c>,
    group: &'w [Cell],
    /// By day and the day before.
    of_group: BTreeMap<(i64, i64), i64>,
}

impl<'w> Changes<'_, 'w> {
    fn turn_to(&mut self, group: &'w [Cell]) -> rusqlite::Result<()> {
        if self.group != group {
            self.write()?;
            self.group = group;
        }
        Ok(())
    }

    /// A day that came (1) or went (-1) between two others of a member.
    fn note(&mut self, came: i64, before: Option<i64>, day: i64, after: Option<i64>) {
        let mut add = |day: i64, before: i64, n: i64| *self.of_group.entry((day, before)).or_default() += n;
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

    fn write(&mut self) -> rusqlite::Result<()> {
        for ((day, before), n) in std::mem::take(&mut self.of_group) {
            if n != 0 {
                let mut row = self.group.to_vec();
                row.extend([day, before, n].map(Cell::Integer));
                self.counts.add(&row)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use super::*;
    use crate::store::tables::{ColumnKind, Spans};
    use crate::store::{Verb, Write};

    fn members() -> Table {
        let text = ColumnKind::Text { chars_max: 9 };
        let columns =
            [("grp", text), ("member", text), ("day", ColumnKind::Integer), ("n", ColumnKind::Integer)];
        Table::new("members", 3, &columns).with(Beside::Spans(Spans { table: "spans".to_owned() }))
    }

    fn asked(connection: &Connection, sql: &str) -> i64 {
        connection.query_row(sql, [], |row| row.get::<_, Option<i64>>(0)).expect("a number").unwrap_or(0)
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(60))]
        #[test]
        fn members_in_any_range_of_days_are_those_that_a_walk_would_count(
            batches in proptest::collection::vec(
                proptest::collection::vec((0_u8..2, 0_u8..5, 1_i64..9, proptest::bool::weighted(0.6)), 1..12),
                1..12,
            )
        ) {
            let connection = Connection::open_in_memory().expect("opens");
            let table = Arc::new(members());
            for table in [table.as_ref(), &spans_table(&table, "spans")] {
                connection.execute_batch(&statements::create_table(table, false)).expect("a table");
            }
            let mut model: BTreeMap<(u8, u8, i64), i64> = BTreeMap::new();
            for batch in batches {
                let mut folded: BTreeMap<(u8, u8, i64), i64> = BTreeMap::new();
                for (group, member, day, comes) in batch {
                    let there = *model.entry((group, member, day)).or_default();
                    // Only what was counted can be taken back.
                    let change = if comes || there == 0 { 1 } else { -1 };
                    *model.entry((group, member, day)).or_default() += change;
                    *folded.entry((group, member, day)).or_default() += change;
                }
                let cells = folded.into_iter().filter(|(_, n)| *n != 0).flat_map(|((group, member, day), n)| {
                    [Cell::Text(group.to_string()), Cell::Text(member.to_string()), Cell::Integer(day), Cell::Integer(n)]
                });
                let write = Write { table: Arc::clone(&table), verb: Verb::Visit, cells: cells.collect() };
                carry_out(&connection, &write).expect("counted");
                model.retain(|_, n| *n != 0);
            }
            for group in 0..2_u8 {
                let members = |from: i64, to: i64| {
                    let there = model.keys().filter(|(of, _, day)| *of == group && (from..=to).contains(day));
                    there.map(|(_, member, _)| *member).collect::<BTreeSet<u8>>().len() as i64
                };
                let all = asked(&connection, &format!("SELECT n FROM (SELECT 0 AS n UNION ALL SELECT n FROM spans WHERE grp = '{group}' AND day = 0) ORDER BY n DESC LIMIT 1"));
                proptest::prop_assert_eq!(all, members(1, 9));
                for from in 1..9 {
                    for to in from..9 {
                        let sql = format!("SELECT SUM(n) FROM spans WHERE grp = '{group}' AND day BETWEEN {from} AND {to} AND before < {from}");
                        proptest::prop_assert_eq!(asked(&connection, &sql), members(from, to));
                    }
                }
            }
            proptest::prop_assert_eq!(asked(&connection, "SELECT COUNT(*) FROM members"), model.len() as i64);
            proptest::prop_assert_eq!(asked(&connection, "SELECT COUNT(*) FROM spans WHERE n < 1"), 0);
        }
    }
}

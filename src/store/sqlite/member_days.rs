//! Counts distinct members by day in SQLite. The rows of a member's days are next to each other. A new day therefore
//! finds the days before and after it on the same page, and only the gaps between them change.

use rusqlite::{Connection, params_from_iter};

use super::counts::Counts;
use super::statements;
use crate::store::day_gaps::Changes;
use crate::store::plan::Write;
use crate::store::tables::{Cell, DerivedIndex, Table, quote};

/// Applies a write of [`Verb::Visit`](crate::store::Verb::Visit).
pub fn execute(connection: &Connection, write: &Write) -> rusqlite::Result<()> {
    let table = write.table.as_ref();
    let DerivedIndex::DayGaps(day_gaps) = &table.derived_index else {
        panic!("visits are written only to a table with day gaps")
    };
    let mut visits = Counts::of(connection, table)?;
    let mut neighbours = connection.prepare_cached(&neighbours_sql(table))?;
    let mut changes = Changes::default();
    for row in write.rows() {
        let (group, visit) = row.split_at(day_gaps.group_columns());
        let (was, now) = visits.add(visit)?;
        let came = match (was, now) {
            (0, 0) => continue,
            (0, _) => 1,
            (_, 0) => -1,
            _ => continue,
        };
        let key = &visit[..table.key_columns];
        let [.., Cell::Integer(day)] = key else { panic!("the day of a visit must be a number") };
        let (before, after) =
            neighbours.query_row(params_from_iter(key), |row| Ok((row.get(0)?, row.get(1)?)))?;
        changes.record(group, came, before, *day, after);
    }
    let mut counts = Counts::of(connection, &day_gaps.table)?;
    for row in changes.rows() {
        counts.add(&row)?;
    }
    Ok(())
}

/// Returns the query for a member's last day before a day, and its first day after it.
fn neighbours_sql(table: &Table) -> String {
    let day = quote(&table.columns[table.key_columns - 1].name);
    let member = statements::equal(&table.columns[..table.key_columns - 1], 1);
    let from = format!("FROM {} WHERE {member} AND {day}", quote(&table.name));
    let this = table.key_columns;
    format!("SELECT (SELECT MAX({day}) {from} < ?{this}), (SELECT MIN({day}) {from} > ?{this})")
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use super::*;
    use crate::store::tables::{ColumnKind, DayGaps};
    use crate::store::{Verb, Write};

    fn tables() -> [Arc<Table>; 2] {
        let (text, integer) = (ColumnKind::Text { chars_max: 9 }, ColumnKind::Integer);
        let spans = [("grp", text), ("day", integer), ("before", integer), ("n", integer)];
        let spans = Arc::new(Table::new("spans", 3, &spans));
        let member = ColumnKind::Bytes { bytes_max: 2 };
        let members = Table::new("members", 2, &[("member", member), ("day", integer), ("n", integer)]);
        [Arc::new(members.with(DerivedIndex::DayGaps(DayGaps { table: Arc::clone(&spans) }))), spans]
    }

    fn queried(connection: &Connection, sql: &str) -> i64 {
        connection.query_row(sql, [], |row| row.get::<_, Option<i64>>(0)).expect("a number").unwrap_or(0)
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(60))]
        #[test]
        fn the_member_count_of_any_range_of_days_equals_that_of_a_full_scan(
            batches in proptest::collection::vec(
                proptest::collection::vec((0_u8..2, 0_u8..5, 1_i64..9, proptest::bool::weighted(0.6)), 1..12),
                1..12,
            )
        ) {
            let connection = Connection::open_in_memory().expect("opens");
            super::super::counts::install(&connection).expect("a function");
            let tables = tables();
            for table in &tables {
                connection.execute_batch(&statements::create_table(table, false)).expect("a table");
            }
            let [table, _] = tables;
            let mut model: BTreeMap<(u8, u8, i64), i64> = BTreeMap::new();
            for batch in batches {
                let mut folded: BTreeMap<(u8, i64, u8), i64> = BTreeMap::new();
                for (group, member, day, comes) in batch {
                    let there = *model.entry((group, member, day)).or_default();
                    // Only counted visits can be corrected.
                    let change = if comes || there == 0 { 1 } else { -1 };
                    *model.entry((group, member, day)).or_default() += change;
                    *folded.entry((member, day, group)).or_default() += change;
                }
                let cells = folded.into_iter().filter(|(_, n)| *n != 0).flat_map(|((member, day, group), n)| {
                    [Cell::Text(group.to_string()), Cell::Bytes(vec![member, group]), Cell::Integer(day), Cell::Integer(n)]
                });
                let write = Write { table: Arc::clone(&table), verb: Verb::Visit, cells: cells.collect() };
                execute(&connection, &write).expect("counted");
                model.retain(|_, n| *n != 0);
            }
            for group in 0..2_u8 {
                let members = |from: i64, to: i64| {
                    let there = model.keys().filter(|(of, _, day)| *of == group && (from..=to).contains(day));
                    there.map(|(_, member, _)| *member).collect::<BTreeSet<u8>>().len() as i64
                };
                let all = queried(&connection, &format!("SELECT n FROM (SELECT 0 AS n UNION ALL SELECT n FROM spans WHERE grp = '{group}' AND day = 0) ORDER BY n DESC LIMIT 1"));
                proptest::prop_assert_eq!(all, members(1, 9));
                for from in 1..9 {
                    for to in from..9 {
                        let sql = format!("SELECT SUM(n) FROM spans WHERE grp = '{group}' AND day BETWEEN {from} AND {to} AND before < {from}");
                        proptest::prop_assert_eq!(queried(&connection, &sql), members(from, to));
                    }
                }
            }
            proptest::prop_assert_eq!(queried(&connection, "SELECT COUNT(*) FROM members"), model.len() as i64);
            proptest::prop_assert_eq!(queried(&connection, "SELECT COUNT(*) FROM spans WHERE n < 1"), 0);
        }
    }
}

//! The open transaction of SQLite's writer, for the rules of the store. None of its futures ever waits.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use event::Millis;
use rusqlite::{Connection, params_from_iter};

use super::errors::classify;
use super::{counts, numbered_rows, ranking_tables, read_rows, shape, statements};
use crate::store::StoreError;
use crate::store::cell::Cell;
use crate::store::numbered_rows::{Rows, RowsOf};
use crate::store::session::Session;
use crate::store::sql_view::SqlView;
use crate::store::table_fault::TableFault;
use crate::store::tables::{Table, quote};

pub struct SqliteSession<'c> {
    pub connection: &'c Connection,
}

/// Runs a rule on the current thread. A rule waits only for its session, and this one answers at once.
pub fn run<T>(rule: impl Future<Output = T>) -> T {
    match pin!(rule).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("SQLite answers without waiting"),
    }
}

impl SqliteSession<'_> {
    fn each_row(&self, sql: &str, width: usize, cells: &[Cell]) -> Result<(), StoreError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(classify)?;
        for row in cells.chunks_exact(width) {
            statement.execute(params_from_iter(row)).map_err(classify)?;
        }
        Ok(())
    }
}

impl Session for SqliteSession<'_> {
    async fn rows(&mut self, sql: &str, parameters: &[Cell]) -> Result<Vec<Vec<Cell>>, StoreError> {
        read_rows(self.connection, sql, parameters).map_err(classify)
    }

    async fn change(&mut self, sql: &str, parameters: &[Cell]) -> Result<u64, StoreError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(classify)?;
        statement.execute(params_from_iter(parameters)).map(|rows| rows as u64).map_err(classify)
    }

    async fn now(&mut self) -> Result<Millis, StoreError> {
        Ok(Millis::now())
    }

    async fn lock_row(&mut self, _name: &str) -> Result<(), StoreError> {
        Ok(())
    }

    async fn add(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError> {
        self.each_row(&statements::add(table), table.columns.len(), cells)
    }

    async fn tally(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError> {
        counts::tally(self.connection, table, cells).map_err(classify)
    }

    async fn tally_before(&mut self, table: &Table, cells: &[Cell]) -> Result<Vec<i64>, StoreError> {
        counts::tally_before(self.connection, table, cells).map_err(classify)
    }

    async fn insert_new(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError> {
        self.each_row(&statements::insert_new(table), table.columns.len(), cells)
    }

    async fn put(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError> {
        self.each_row(&statements::put(table), table.columns.len(), cells)
    }

    async fn remove(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError> {
        self.each_row(&statements::remove(table), table.columns.len(), cells)
    }

    async fn rows_by_key(&mut self, table: &Table, keys: &[Cell]) -> Result<Vec<Vec<Cell>>, StoreError> {
        let sql = statements::by_key(table);
        let mut rows = Vec::new();
        for key in keys.chunks_exact(table.key_columns) {
            rows.extend(read_rows(self.connection, &sql, key).map_err(classify)?);
        }
        Ok(rows)
    }

    async fn neighbours(
        &mut self,
        table: &Table,
        keys: &[Cell],
    ) -> Result<Vec<(Option<i64>, Option<i64>)>, StoreError> {
        let sql = statements::neighbours(table);
        let mut statement = self.connection.prepare_cached(&sql).map_err(classify)?;
        let keys = keys.chunks_exact(table.key_columns);
        let found = keys.map(|key| {
            statement.query_row(params_from_iter(key), |row| Ok((row.get(0)?, row.get(1)?))).map_err(classify)
        });
        found.collect()
    }

    async fn insert_numbered(&mut self, of: &RowsOf, rows: &Rows) -> Result<Vec<i64>, StoreError> {
        numbered_rows::insert(self.connection, of, rows)
    }

    async fn restore_numbered(
        &mut self,
        table: &Table,
        numbers: &[i64],
        rows: &Rows,
    ) -> Result<(), StoreError> {
        numbered_rows::restore(self.connection, table, numbers, rows)
    }

    async fn delete_numbers(&mut self, table: &Table, numbers: &[i64]) -> Result<(), StoreError> {
        let id = table.number_column();
        let sql = format!("DELETE FROM {} WHERE {} = ?1", quote(&table.name), quote(id));
        let mut statement = self.connection.prepare_cached(&sql).map_err(classify)?;
        numbers.iter().try_for_each(|number| statement.execute([number]).map(drop).map_err(classify))
    }

    async fn exists(&mut self, table: &str) -> Result<bool, StoreError> {
        shape::exists(self.connection, table)
    }

    async fn table_fault(&mut self, table: &Table) -> Result<Option<TableFault>, StoreError> {
        shape::fault(self.connection, table)
    }

    fn sql_view_query(&self, sql_view: &SqlView) -> Option<String> {
        Some(statements::sql_view_query(sql_view))
    }

    async fn sql_view_definition(&mut self, name: &str) -> Result<Option<String>, StoreError> {
        shape::sql_view(self.connection, name)
    }

    async fn run_schema(&mut self, sql: &str) -> Result<(), StoreError> {
        self.connection.execute_batch(sql).map_err(classify)
    }

    async fn create(&mut self, table: &Table) -> Result<(), StoreError> {
        self.connection.execute_batch(&statements::create_table(table, false)).map_err(classify)
    }

    fn ranking_tables(&self, table: &Table) -> Vec<Table> {
        ranking_tables::ranking_tables(table)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use event::{BodyHash, EventId, LogId};

    use super::*;
    use crate::store::dedup_rule::{DedupEntry, DedupKey, Skipped};
    use crate::store::millrace_tables::own_tables;
    use crate::store::plan::{Claim, Plan};
    use crate::store::rules;

    use crate::store::tables::ColumnKind;
    use crate::store::visits::{MEMBER_BYTES, Visit, Visits};

    /// Applies a plan that leaves the position of its view alone.
    fn apply(connection: &Connection, fill: impl FnOnce(&mut Plan)) -> Result<Vec<Skipped>, StoreError> {
        let claim = Claim { view: "v".to_owned(), log: LogId([0; 16]), from: 0, to: 0, definition: None };
        let sql =
            "INSERT OR IGNORE INTO millrace_positions (view, log_id, part, position) VALUES ('v', ?1, 0, 0)";
        connection.execute(sql, [claim.log.0]).expect("a position");
        let mut plan = Plan::new(claim);
        fill(&mut plan);
        run(rules::apply(&mut SqliteSession { connection }, &plan))
    }

    fn tables() -> [Arc<Table>; 2] {
        let (text, integer) = (ColumnKind::Text { chars_max: 9 }, ColumnKind::Integer);
        let spans = [("grp", text), ("day", integer), ("before", integer), ("n", integer)];
        let spans = Arc::new(Table::new("spans", 3, &spans));
        let member = ColumnKind::Bytes { bytes_max: MEMBER_BYTES as u32 };
        let members = Table::new("members", 2, &[("member", member), ("day", integer), ("n", integer)]);
        [Arc::new(members), spans]
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
            counts::install(&connection).expect("a function");
            let tables = tables();
            for table in own_tables().iter().chain(tables.iter().map(Arc::as_ref)) {
                connection.execute_batch(&statements::create_table(table, false)).expect("a table");
            }
            let [members, day_gaps] = tables;
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
                let changes = folded.into_iter().filter(|(_, n)| *n != 0).map(|((member, day, group), added)| {
                    let mut key = [group; MEMBER_BYTES];
                    key[0] = member;
                    Visit { member: key, day, added, group: [Cell::Text(group.to_string())].into() }
                });
                let changes = changes.collect();
                let visits = Visits::new(&members, &day_gaps, changes);
                apply(&connection, |plan| plan.visits = Some(visits)).expect("counted");
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

    #[test]
    fn an_expired_id_is_new_even_if_its_row_still_exists() {
        let connection = Connection::open_in_memory().expect("opens");
        for table in own_tables() {
            connection.execute_batch(&statements::create_table(&table, true)).expect("a table");
        }
        let seen = |position: u64, received: i64| DedupEntry {
            key: DedupKey::Event(EventId::derived("s", "o", "id")),
            hash: BodyHash([1; 8]),
            received: Millis(received),
            expires: Some(Millis(received + 100)),
            events: vec![(position, 0)],
            conflict: Vec::new(),
        };
        let repeats = |position, received| {
            apply(&connection, |plan| plan.seen.push(seen(position, received))).expect("recorded").len()
        };
        assert_eq!(
            (repeats(0, 1_000), repeats(1, 1_100), repeats(2, 1_101), repeats(3, 1_201)),
            (0, 1, 0, 1)
        );
    }
}

//! Tables of a row an event. The database gives their numbers: of the rows of one statement the first, and
//! the others follow it, as it promises for statements whose rows it can count beforehand.

use std::collections::HashSet;

use mysql_async::Value;
use mysql_async::prelude::Queryable;

use super::verbs::pieces;
use super::{Session, cells, statements};
use crate::store::StoreError;
use crate::store::rows::Rows;
use crate::store::tables::{Cell, Table};

impl Session {
    pub async fn number(&mut self, table: &Table, rows: &Rows) -> Result<Vec<i64>, StoreError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        // Clusters change it with their size.
        let step = self.conn.query_first::<i64, _>("SELECT @@session.auto_increment_increment").await;
        let step = self.settled(step)?.unwrap_or(1);
        let values = rows.values().map(|value| cells::of_event(&value));
        let statement = |rows| statements::insert(table, rows);
        let written = self.write_rows(table.columns.len(), values, statement).await?;
        self.all_written(table, &written)?;
        let mut numbers = Vec::with_capacity(rows.len());
        for statement in written {
            let first = statement.first.and_then(|first| i64::try_from(first).ok()).ok_or_else(|| {
                StoreError::Blocked(format!("table `{}` does not say which numbers its rows got", table.name))
            })?;
            numbers.extend((0..statement.rows as i64).map(|row| first + row * step));
        }
        Ok(numbers)
    }

    pub async fn mend(&mut self, table: &Table, numbers: &[i64], rows: &Rows) -> Result<(), StoreError> {
        let (id, width) = (id(table), table.columns.len());
        let there = self.numbers_there(table, numbers).await?;
        let update = statements::update_numbered(table, id);
        let mut missing = Vec::new();
        let mut values = rows.values();
        // Another unique key of the table may meet a row that is not meant: so no row is met by any.
        for number in numbers {
            let row = values.by_ref().take(width).map(|value| cells::of_event(&value));
            let mut row: Vec<Value> = row.collect::<Result<_, _>>()?;
            match there.contains(number) {
                true => {
                    row.push(Value::Int(*number));
                    self.write(&update, row).await?;
                }
                false => {
                    missing.push(Value::Int(*number));
                    missing.extend(row);
                }
            }
        }
        let statement = |rows| statements::insert_numbered(table, id, rows);
        let written = self.write_rows(width + 1, missing.into_iter().map(Ok), statement).await?;
        self.all_written(table, &written)
    }

    pub async fn delete_numbers(&mut self, table: &Table, numbers: &[i64]) -> Result<(), StoreError> {
        for (count, numbers) in pieces(numbers, 1) {
            let parameters = numbers.iter().map(|number| Value::Int(*number)).collect();
            self.write(&statements::delete_numbers(table, id(table), count), parameters).await?;
        }
        Ok(())
    }

    async fn numbers_there(&mut self, table: &Table, numbers: &[i64]) -> Result<HashSet<i64>, StoreError> {
        let mut there = HashSet::new();
        for (count, numbers) in pieces(numbers, 1) {
            let parameters = numbers.iter().map(|number| Value::Int(*number)).collect();
            let rows = self.read(&statements::numbers_there(table, id(table), count), parameters).await?;
            there.extend(rows.iter().filter_map(|row| match row.first() {
                Some(Cell::Integer(number)) => Some(*number),
                _ => None,
            }));
        }
        Ok(there)
    }
}

fn id(table: &Table) -> &str {
    table.id.as_deref().expect("a table of a row an event numbers its rows")
}

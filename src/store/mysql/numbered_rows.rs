//! Tables with one row per event, which the database numbers. It returns the number of a statement's first row. The
//! others follow it: the database guarantees this for statements whose number of rows it knows in advance.

use std::collections::HashSet;

use mysql_async::Value;
use mysql_async::prelude::Queryable;

use super::verbs::power_of_two_chunks;
use super::{Session, cells, statements};
use crate::store::StoreError;
use crate::store::numbered_rows::Rows;
use crate::store::tables::Table;

impl Session {
    pub async fn insert_numbered(&mut self, table: &Table, rows: &Rows) -> Result<Vec<i64>, StoreError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        // A cluster changes this setting when its size changes.
        let query = self.conn.query_first::<i64, _>("SELECT @@session.auto_increment_increment");
        let step = self.statement_timeout.wait(query).await?;
        let step = self.checked(step)?.unwrap_or(1);
        let values = rows.cells().map(cells::value);
        let statement = |rows| statements::insert(table, rows);
        let written = self.write_rows(table.columns.len(), values, statement).await?;
        self.all_written(table, &written)?;
        let mut numbers = Vec::with_capacity(rows.len());
        for (rows, result) in written {
            let first = result.first_id.and_then(|first| i64::try_from(first).ok()).ok_or_else(|| {
                StoreError::Blocked(format!(
                    "table `{}`: the database did not return the numbers of the inserted rows",
                    table.name
                ))
            })?;
            numbers.extend((0..rows as i64).map(|row| first + row * step));
        }
        Ok(numbers)
    }

    pub async fn restore_numbered(
        &mut self,
        table: &Table,
        numbers: &[i64],
        rows: &Rows,
    ) -> Result<(), StoreError> {
        let (id, width) = (table.number_column(), table.columns.len());
        let existing = self.existing_numbers(table, numbers).await?;
        let update = statements::update_numbered(table, id);
        let mut missing = Vec::new();
        let mut values = rows.cells();
        // Not one `INSERT ... ON DUPLICATE KEY UPDATE`: it could change another row by another unique key.
        for number in numbers {
            let row = values.by_ref().take(width).map(cells::value);
            let mut row: Vec<Value> = row.collect::<Result<_, _>>()?;
            if existing.contains(number) {
                row.push(Value::Int(*number));
                self.write(&update, row).await?;
            } else {
                missing.push(Value::Int(*number));
                missing.extend(row);
            }
        }
        let statement = |rows| statements::insert_numbered(table, id, rows);
        let written = self.write_rows(width + 1, missing.into_iter().map(Ok), statement).await?;
        self.all_written(table, &written)
    }

    pub async fn delete_numbers(&mut self, table: &Table, numbers: &[i64]) -> Result<(), StoreError> {
        for (count, numbers) in power_of_two_chunks(numbers, 1) {
            let parameters = numbers.iter().map(|number| Value::Int(*number)).collect();
            self.write(&statements::delete_numbers(table, table.number_column(), count), parameters).await?;
        }
        Ok(())
    }

    async fn existing_numbers(&mut self, table: &Table, numbers: &[i64]) -> Result<HashSet<i64>, StoreError> {
        let mut existing = HashSet::new();
        for (count, numbers) in power_of_two_chunks(numbers, 1) {
            let parameters = numbers.iter().map(|number| Value::Int(*number)).collect();
            let rows = self
                .read(&statements::existing_numbers(table, table.number_column(), count), parameters)
                .await?;
            existing.extend(rows.iter().filter_map(|row| row.first()?.integer()));
        }
        Ok(existing)
    }
}

#[cfg(test)]
mod tests {
    use event::{Millis, Value as EventValue};

    use super::*;
    use crate::store::cell::Cell;
    use crate::store::mysql::test_server::{Mariadb, connected, session};
    use crate::store::remote::begin::Begin;
    use crate::store::tables::{Column, ColumnKind};

    fn table() -> Table {
        let column = |name: &str, kind| Column { name: name.to_owned(), kind, null: true };
        let columns = vec![column("what", ColumnKind::LongText), column("at", ColumnKind::Time)];
        Table::numbered("t", "id", columns)
    }

    fn rows(texts: impl IntoIterator<Item = String>) -> Rows {
        let mut rows = Rows::new(2);
        for text in texts {
            rows.push(&EventValue::Text(text.into()));
            rows.push(&EventValue::Time(Millis(1_762_000_000_999)));
        }
        rows
    }

    async fn stored_rows(session: &mut Session) -> Vec<(i64, String)> {
        let found = session.rows(r#"SELECT "id", "what" FROM "t" ORDER BY "id""#, &[]).await.expect("rows");
        let pair = |row: Vec<Cell>| match <[Cell; 2]>::try_from(row) {
            Ok([Cell::Integer(id), Cell::Text(what)]) => (id, what),
            other => panic!("{other:?}"),
        };
        found.into_iter().map(pair).collect()
    }

    #[tokio::test]
    async fn returned_numbers_are_those_of_the_rows_while_others_insert() {
        let (mut session, url) = session().await;
        session.create(&table()).await.expect("made");
        let mut writers = Vec::new();
        for writer in 0..4 {
            let url = url.clone();
            writers.push(tokio::spawn(async move {
                let mut session = connected(&url).await;
                if writer % 2 == 1 {
                    session
                        .run("SET auto_increment_increment = 3, auto_increment_offset = 2")
                        .await
                        .expect("set");
                }
                let mut written = Vec::new();
                for (round, count) in [1, 700, 5, 3_001].into_iter().enumerate() {
                    let texts: Vec<String> =
                        (0..count).map(|row| format!("{writer} {round} {row}")).collect();
                    session.begin(Begin::Writing).await.expect("begun");
                    let numbers =
                        session.insert_numbered(&table(), &rows(texts.clone())).await.expect("inserted");
                    session.commit().await.expect("committed");
                    written.extend(numbers.into_iter().zip(texts));
                }
                written
            }));
        }
        let mut written = Vec::new();
        for writer in writers {
            written.extend(writer.await.expect("no panic"));
        }
        written.sort();
        assert_eq!(stored_rows(&mut session).await, written);
    }

    #[tokio::test]
    async fn rows_are_restored_under_their_numbers_and_other_rows_stay() {
        let (mut session, url) = session().await;
        let sql = "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, what VARCHAR(9) CHARACTER SET utf8mb4 UNIQUE, at DATETIME, own INT DEFAULT 1)";
        Mariadb::shared().sql(&url, sql);
        let words = |words: &[&str]| rows(words.iter().map(|word| (*word).to_owned()));
        let numbers = session.insert_numbered(&table(), &words(&["a", "b", "c"])).await.expect("inserted");
        assert_eq!(numbers, [1, 2, 3]);
        Mariadb::shared().sql(&url, "UPDATE t SET own = id * 10");
        session.restore_numbered(&table(), &[2, 7, 3], &words(&["B", "g", "c"])).await.expect("restored");
        let outcome = session.restore_numbered(&table(), &[9], &words(&["a"])).await;
        assert!(matches!(outcome, Err(StoreError::Data(_))), "{outcome:?}");
        session.rollback().await.expect("rolled back");
        session.delete_numbers(&table(), &[3, 4, 5]).await.expect("deleted");
        let text = |id, what: &str| (id, what.to_owned());
        assert_eq!(stored_rows(&mut session).await, [text(1, "a"), text(2, "B"), text(7, "g")]);
        let own = session.rows("SELECT own, at FROM t ORDER BY id", &[]).await.expect("rows");
        // Truncated, not rounded up to the next second.
        let at = Cell::Time(Millis(1_762_000_000_000));
        let row = |own| vec![Cell::Integer(own), at.clone()];
        assert_eq!(own, [row(10), row(20), row(1)]);
    }

    #[tokio::test]
    async fn a_value_that_does_not_fit_is_an_error_and_is_never_truncated() {
        let (mut session, url) = session().await;
        let sql = "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, what DECIMAL(10,2), at DATETIME)";
        Mariadb::shared().sql(&url, sql);
        for (value, said) in
            [("1.005", "truncated"), ("123456789", "out of range"), ("x", "wrong type"), ("\0", "wrong type")]
        {
            let outcome = session.insert_numbered(&table(), &rows([value.to_owned()])).await;
            let Err(StoreError::Data(reason)) = outcome else { panic!("{value}: {outcome:?}") };
            assert!(reason.starts_with("column `what`: ") && reason.contains(said), "{value}: {reason}");
        }
        let packet = Mariadb::shared().administer("SELECT @@max_allowed_packet").parse().expect("a number");
        let outcome = session.insert_numbered(&table(), &rows(["1".to_owned(), "1".repeat(packet)])).await;
        assert_eq!(outcome, Err(StoreError::Data(super::super::errors::too_large())));
    }
}

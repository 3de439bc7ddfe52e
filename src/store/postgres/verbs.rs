//! The verbs over rows that have keys. Rows go as arrays, one a column, so that a statement is the same for
//! any number of them.

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::Type;

use super::Session;
use super::cells::{Form, Misfit, Piece};
use super::prepared::Encoded;
use super::statements::{self, Carrier};
use crate::store::StoreError;
use crate::store::tables::{Cell, Table};

impl Session {
    pub async fn add(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError> {
        let written = self.write(table, cells, statements::add).await?;
        all_written(table, written, cells.len() / table.columns.len())
    }

    pub async fn insert_new(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError> {
        self.write(table, cells, statements::insert_new).await.map(drop)
    }

    pub async fn put(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError> {
        let written = self.write(table, cells, statements::put).await?;
        match table.columns.len() > table.key_columns {
            true => all_written(table, written, cells.len() / table.columns.len()),
            false => Ok(()),
        }
    }

    pub async fn remove(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError> {
        self.write(table, cells, statements::remove).await.map(drop)
    }

    pub async fn found(&mut self, table: &Table, keys: &[Cell]) -> Result<Vec<Vec<Cell>>, StoreError> {
        let pieces: Vec<Piece<'_>> = keys.iter().map(Piece::from).collect();
        let given = self.arrays(table, table.key_columns, false, &pieces).await?;
        let statement = self.statement(&statements::found(table, &given.carriers)).await?;
        self.select(&statement, &given.arrays).await
    }

    pub async fn neighbours(
        &mut self,
        table: &Table,
        keys: &[Cell],
    ) -> Result<Vec<(Option<i64>, Option<i64>)>, StoreError> {
        let pieces: Vec<Piece<'_>> = keys.iter().map(Piece::from).collect();
        let given = self.arrays(table, table.key_columns, false, &pieces).await?;
        let statement = self.statement(&statements::neighbours(table, &given.carriers)).await?;
        let number = |cell: &Cell| match cell {
            Cell::Integer(number) => Some(*number),
            _ => None,
        };
        let rows = self.select(&statement, &given.arrays).await?;
        Ok(rows.iter().map(|row| (number(&row[0]), number(&row[1]))).collect())
    }

    async fn write(
        &mut self,
        table: &Table,
        cells: &[Cell],
        sql: fn(&Table, &[Carrier]) -> String,
    ) -> Result<u64, StoreError> {
        if cells.is_empty() {
            return Ok(0);
        }
        let pieces: Vec<Piece<'_>> = cells.iter().map(Piece::from).collect();
        let given = self.arrays(table, table.columns.len(), false, &pieces).await?;
        let statement = self.statement(&sql(table, &given.carriers)).await?;
        self.execute(&statement, &given.arrays).await
    }

    /// The first `width` columns of rows as arrays; with `numbered`, each row begins with its number.
    pub(super) async fn arrays(
        &mut self,
        table: &Table,
        width: usize,
        numbered: bool,
        pieces: &[Piece<'_>],
    ) -> Result<Arrays, StoreError> {
        match self.try_arrays(table, width, numbered, pieces).await {
            // What is known of the columns may be from before somebody widened one.
            Err(StoreError::Data(_)) => {
                self.prepared.forget_forms();
                self.try_arrays(table, width, numbered, pieces).await
            }
            outcome => outcome,
        }
    }

    async fn try_arrays(
        &mut self,
        table: &Table,
        width: usize,
        numbered: bool,
        pieces: &[Piece<'_>],
    ) -> Result<Arrays, StoreError> {
        let forms = self.forms(table).await?;
        let skipped = usize::from(table.id.is_some() && !numbered);
        let width = width + usize::from(numbered);
        let forms = &forms[skipped..skipped + width];
        let name = |index: usize| match (&table.id, numbered, index) {
            (Some(id), true, 0) => id.as_str(),
            (_, true, _) => table.columns[index - 1].name.as_str(),
            (_, false, _) => table.columns[index].name.as_str(),
        };
        let carriers = forms
            .iter()
            .enumerate()
            .map(|(index, form)| Carrier::of(form).ok_or_else(|| not_written(table, name(index), form)));
        let carriers = carriers.collect::<Result<Vec<Carrier>, StoreError>>()?;
        let array = |(index, (form, carrier)): (usize, (&Form, &Carrier))| {
            let values = pieces.iter().skip(index).step_by(width);
            let encoded = array(values.copied(), form, carrier);
            encoded.map_err(|misfit| does_not_fit(table, name(index), &misfit))
        };
        let arrays = forms.iter().zip(&carriers).enumerate().map(array).collect::<Result<Vec<_>, _>>()?;
        Ok(Arrays { carriers, arrays })
    }

    pub(super) async fn forms(&mut self, table: &Table) -> Result<std::sync::Arc<[Form]>, StoreError> {
        let outcome = self.patience.wait(self.prepared.forms(&self.client, table)).await?;
        outcome.map_err(|error| self.classify(&error))
    }
}

pub(super) struct Arrays {
    pub carriers: Vec<Carrier>,
    pub arrays: Vec<Encoded>,
}

/// One dimension, a flag for nulls, the type of the values, how many, counted from 1, the values.
fn array<'a>(
    values: impl ExactSizeIterator<Item = Piece<'a>>,
    form: &Form,
    carrier: &Carrier,
) -> Result<Encoded, Misfit> {
    let count = i32::try_from(values.len()).map_err(|_| Misfit::TooBig(i32::MAX as usize))?;
    let mut bytes = BytesMut::with_capacity(20 + values.len() * 16);
    for word in [1, 1, carrier.kind.oid() as i32, count, 1] {
        bytes.put_i32(word);
    }
    for value in values {
        value.fitted(form)?.put_sized(&carrier.kind, &mut bytes)?;
    }
    Ok(Encoded(Some(bytes)))
}

pub(super) fn integers(values: &[i64]) -> Encoded {
    let mut bytes = BytesMut::with_capacity(20 + values.len() * 12);
    for word in [1, 0, Type::INT8.oid() as i32, values.len() as i32, 1] {
        bytes.put_i32(word);
    }
    for value in values {
        bytes.put_i32(8);
        bytes.put_i64(*value);
    }
    Encoded(Some(bytes))
}

pub(super) fn does_not_fit(table: &Table, column: &str, misfit: &Misfit) -> StoreError {
    StoreError::Data(format!("a value for column `{column}` of table `{}` {misfit}", table.name))
}

pub(super) fn not_written(table: &Table, column: &str, form: &Form) -> StoreError {
    StoreError::Blocked(format!(
        "column `{column}` of table `{}` is of type {}, which millrace does not write",
        table.name,
        form.kind.name()
    ))
}

/// A rule or trigger of the table's owner can drop rows without a word.
pub(super) fn all_written(table: &Table, written: u64, wanted: usize) -> Result<(), StoreError> {
    match written == wanted as u64 {
        true => Ok(()),
        false => Err(StoreError::Blocked(format!(
            "table `{}` took {written} of {wanted} rows: a trigger or rule of its own keeps the others out",
            table.name
        ))),
    }
}

#[cfg(test)]
mod tests {
    use event::Millis;

    use super::*;
    use crate::store::postgres::test_server;
    use crate::store::tables::ColumnKind;

    fn text(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }

    fn decimal(text: &str) -> Cell {
        Cell::Decimal(text.parse().expect("a number"))
    }

    fn every_kind() -> Table {
        Table::new(
            "every kind",
            2,
            &[
                ("who", ColumnKind::Text { chars_max: 255 }),
                ("day", ColumnKind::Integer),
                ("long?", ColumnKind::LongText),
                ("json?", ColumnKind::Json),
                ("amount?", ColumnKind::Decimal),
                ("at?", ColumnKind::Time),
                ("true?", ColumnKind::Boolean),
                ("hash?", ColumnKind::Bytes { bytes_max: 16 }),
                ("bytes?", ColumnKind::LongBytes),
            ],
        )
    }

    fn row(who: &str, day: i64) -> Vec<Cell> {
        vec![
            text(who),
            Cell::Integer(day),
            text("long"),
            text("{\"a\": 1,  \"a\":2}"),
            decimal("-1234567890123456789012345678901234.5678"),
            Cell::Time(Millis(1_761_991_200_007)),
            Cell::Integer(1),
            Cell::Bytes(vec![0, 255]),
            Cell::Bytes(Vec::new()),
        ]
    }

    #[tokio::test]
    async fn every_kind_of_value_comes_back_as_it_went() {
        let mut session = test_server::shared().session().await;
        let table = every_kind();
        session.create(&table).await.expect("a table");
        let mut nulls = row("é ", -1);
        nulls[2..].fill(Cell::Null);
        let rows = [row("a", 1), row("A", 1), row("a ", 1), nulls.clone()];
        session.insert_new(&table, &rows.concat()).await.expect("rows");
        session.insert_new(&table, &row("a", 1)).await.expect("is left as it is");
        let keys = [text("a"), Cell::Integer(1), text("é "), Cell::Integer(-1), text("b"), Cell::Integer(1)];
        let mut found = session.found(&table, &keys).await.expect("rows");
        found.sort();
        assert_eq!(found, [row("a", 1), nulls]);
        let mut other = row("a", 1);
        other[2] = text("other");
        session.put(&table, &other).await.expect("is replaced");
        assert_eq!(session.found(&table, &keys[..2]).await, Ok(vec![other.clone()]));
        session.remove(&table, &row("a", 1)).await.expect("is another row");
        session.remove(&table, &other).await.expect("goes");
        assert_eq!(session.found(&table, &keys[..2]).await, Ok(vec![]));
        let count = session.rows("SELECT COUNT(*) FROM \"every kind\"", &[]).await;
        assert_eq!(count, Ok(vec![vec![Cell::Integer(3)]]));
    }

    #[tokio::test]
    async fn amounts_are_added_to_the_last_digit() {
        let mut session = test_server::shared().session().await;
        let table =
            Table::new("t", 1, &[("who", ColumnKind::Text { chars_max: 255 }), ("sum", ColumnKind::Decimal)]);
        session.create(&table).await.expect("a table");
        let rows = [text("a"), decimal("999999999999999.9999"), text("b"), decimal("-0.0001")];
        for _ in 0..2 {
            session.add(&table, &rows).await.expect("adds");
        }
        session.add(&table, &[]).await.expect("nothing");
        let shown = session.rows("SELECT sum FROM t ORDER BY who", &[]).await.expect("rows");
        assert_eq!(shown, [[decimal("1999999999999999.9998")], [decimal("-0.0002")]]);
    }

    #[tokio::test]
    async fn neighbours_are_the_next_numbers_of_the_same_row() {
        let mut session = test_server::shared().session().await;
        let columns = [
            ("who", ColumnKind::Text { chars_max: 9 }),
            ("day", ColumnKind::Integer),
            ("n", ColumnKind::Integer),
        ];
        let table = Table::new("t", 2, &columns);
        session.create(&table).await.expect("a table");
        let rows = [("a", 1), ("a", 5), ("a", 9), ("b", 6)];
        let cells: Vec<Cell> =
            rows.iter().flat_map(|(who, day)| [text(who), Cell::Integer(*day), Cell::Integer(1)]).collect();
        session.add(&table, &cells).await.expect("rows");
        let keys = [("a", 9), ("a", 5), ("b", 6), ("c", 1), ("a", 2)];
        let keys: Vec<Cell> = keys.iter().flat_map(|(who, day)| [text(who), Cell::Integer(*day)]).collect();
        let expected = [(Some(5), None), (Some(1), Some(9)), (None, None), (None, None), (Some(1), Some(5))];
        assert_eq!(session.neighbours(&table, &keys).await, Ok(expected.to_vec()));
    }

    #[tokio::test]
    async fn a_row_that_does_not_fit_says_where_and_one_that_was_widened_for_goes_in() {
        let mut session = test_server::shared().session().await;
        session
            .batch("CREATE TABLE t (who VARCHAR(3) PRIMARY KEY, n INT, at TIMESTAMP(0))")
            .await
            .expect("a table");
        let columns = [
            ("who", ColumnKind::Text { chars_max: 9 }),
            ("n?", ColumnKind::Integer),
            ("at?", ColumnKind::Time),
        ];
        let table = Table::new("t", 1, &columns);
        for (row, column) in [
            ([text("four"), Cell::Null, Cell::Null], "who"),
            ([text("a\0"), Cell::Null, Cell::Null], "who"),
            ([text("a"), Cell::Integer(1 << 40), Cell::Null], "n"),
        ] {
            match session.put(&table, &row).await {
                Err(StoreError::Data(reason)) => assert!(reason.contains(&format!("`{column}`")), "{reason}"),
                other => panic!("{column}: {other:?}"),
            }
        }
        let row = [text("a"), Cell::Integer(1), Cell::Time(Millis(1_999))];
        session.put(&table, &row).await.expect("a row");
        let shown = session.rows("SELECT at FROM t", &[]).await;
        assert_eq!(shown, Ok(vec![vec![Cell::Time(Millis(1_000))]]));
        session.batch("ALTER TABLE t ALTER who TYPE TEXT, ALTER n TYPE BIGINT").await.expect("widens");
        session.put(&table, &[text("four"), Cell::Integer(1 << 40), Cell::Null]).await.expect("fits now");
    }
}

//! Writes and finds rows in tables that have a key. Rows are passed as arrays, one per column, so one statement
//! serves any number of rows.

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::Type;

use super::Session;
use super::cells::{ColumnType, EncodeError};
use super::prepared::Encoded;
use super::statements::{self, ArrayType};
use crate::store::StoreError;
use crate::store::cell::{Cell, CellRef};
use crate::store::tables::Table;

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
        if table.columns.len() > table.key_columns {
            all_written(table, written, cells.len() / table.columns.len())
        } else {
            Ok(())
        }
    }

    pub async fn remove(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError> {
        self.write(table, cells, statements::remove).await.map(drop)
    }

    pub async fn rows_by_key(&mut self, table: &Table, keys: &[Cell]) -> Result<Vec<Vec<Cell>>, StoreError> {
        let cell_refs: Vec<CellRef<'_>> = keys.iter().map(CellRef::from).collect();
        let encoded = self.arrays(table, table.key_columns, false, &cell_refs).await?;
        let statement = self.statement(&statements::rows_by_key(table, &encoded.array_types)).await?;
        self.select(&statement, &encoded.arrays).await
    }

    pub async fn neighbours(
        &mut self,
        table: &Table,
        keys: &[Cell],
    ) -> Result<Vec<(Option<i64>, Option<i64>)>, StoreError> {
        let cell_refs: Vec<CellRef<'_>> = keys.iter().map(CellRef::from).collect();
        let encoded = self.arrays(table, table.key_columns, false, &cell_refs).await?;
        let statement = self.statement(&statements::neighbours(table, &encoded.array_types)).await?;
        let rows = self.select(&statement, &encoded.arrays).await?;
        Ok(rows.iter().map(|row| (row[0].integer(), row[1].integer())).collect())
    }

    async fn write(
        &mut self,
        table: &Table,
        cells: &[Cell],
        sql: fn(&Table, &[ArrayType]) -> String,
    ) -> Result<u64, StoreError> {
        if cells.is_empty() {
            return Ok(0);
        }
        let cell_refs: Vec<CellRef<'_>> = cells.iter().map(CellRef::from).collect();
        let encoded = self.arrays(table, table.columns.len(), false, &cell_refs).await?;
        let statement = self.statement(&sql(table, &encoded.array_types)).await?;
        self.execute(&statement, &encoded.arrays).await
    }

    /// Encodes the first `width` columns of rows as arrays. With `numbered`, each row begins with its number.
    pub(super) async fn arrays(
        &mut self,
        table: &Table,
        width: usize,
        numbered: bool,
        cell_refs: &[CellRef<'_>],
    ) -> Result<Arrays, StoreError> {
        match self.try_arrays(table, width, numbered, cell_refs).await {
            // The cached types can be older than a change of the table that widened a column.
            Err(StoreError::Data(_)) => {
                self.prepared.forget_column_types();
                self.try_arrays(table, width, numbered, cell_refs).await
            }
            outcome => outcome,
        }
    }

    async fn try_arrays(
        &mut self,
        table: &Table,
        width: usize,
        numbered: bool,
        cell_refs: &[CellRef<'_>],
    ) -> Result<Arrays, StoreError> {
        let column_types = self.column_types(table).await?;
        let skipped = usize::from(table.id.is_some() && !numbered);
        let width = width + usize::from(numbered);
        let column_types = &column_types[skipped..skipped + width];
        let name = |index: usize| match (&table.id, numbered, index) {
            (Some(id), true, 0) => id.as_str(),
            (_, true, _) => table.columns[index - 1].name.as_str(),
            (_, false, _) => table.columns[index].name.as_str(),
        };
        let array_types = column_types.iter().enumerate().map(|(index, column_type)| {
            ArrayType::of(column_type).ok_or_else(|| unsupported_type(table, name(index), column_type))
        });
        let array_types = array_types.collect::<Result<Vec<ArrayType>, StoreError>>()?;
        let array = |(index, (column_type, array_type)): (usize, (&ColumnType, &ArrayType))| {
            let values = cell_refs.iter().skip(index).step_by(width);
            let encoded = array(values.copied(), column_type, array_type);
            encoded.map_err(|error| does_not_fit(table, name(index), &error))
        };
        let arrays =
            column_types.iter().zip(&array_types).enumerate().map(array).collect::<Result<Vec<_>, _>>()?;
        Ok(Arrays { array_types, arrays })
    }

    pub(super) async fn column_types(
        &mut self,
        table: &Table,
    ) -> Result<std::sync::Arc<[ColumnType]>, StoreError> {
        let outcome = self.statement_timeout.wait(self.prepared.column_types(&self.client, table)).await?;
        outcome.map_err(|error| self.classify(&error))
    }
}

pub(super) struct Arrays {
    pub array_types: Vec<ArrayType>,
    pub arrays: Vec<Encoded>,
}

/// Encodes an array: one dimension, a flag for nulls, the type of the values, their number, the first index, the
/// values.
fn array<'a>(
    values: impl ExactSizeIterator<Item = CellRef<'a>>,
    column_type: &ColumnType,
    array_type: &ArrayType,
) -> Result<Encoded, EncodeError> {
    let count = i32::try_from(values.len()).map_err(|_| EncodeError::TooBig(i32::MAX as usize))?;
    let mut bytes = BytesMut::with_capacity(20 + values.len() * 16);
    for word in [1, 1, array_type.kind.oid() as i32, count, 1] {
        bytes.put_i32(word);
    }
    for value in values {
        value.fit_to(column_type)?.put_sized(&array_type.kind, &mut bytes)?;
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

pub(super) fn does_not_fit(table: &Table, column: &str, error: &EncodeError) -> StoreError {
    StoreError::Data(format!("a value for column `{column}` of table `{}` {error}", table.name))
}

pub(super) fn unsupported_type(table: &Table, column: &str, column_type: &ColumnType) -> StoreError {
    StoreError::Blocked(format!(
        "column `{column}` of table `{}` has the type {}, which millrace cannot write",
        table.name,
        column_type.kind.name()
    ))
}

/// Fails if rows were not written: a rule or trigger of the table can silently drop them.
pub(super) fn all_written(table: &Table, written: u64, wanted: usize) -> Result<(), StoreError> {
    if written == wanted as u64 {
        Ok(())
    } else {
        Err(StoreError::Blocked(format!(
            "table `{}` accepted {written} of {wanted} rows; remove the trigger or rule that drops the others",
            table.name
        )))
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
    async fn every_kind_of_value_is_read_back_unchanged() {
        let mut session = test_server::shared().session().await;
        let table = every_kind();
        session.create(&table).await.expect("a table");
        let mut nulls = row("é ", -1);
        nulls[2..].fill(Cell::Null);
        let rows = [row("a", 1), row("A", 1), row("a ", 1), nulls.clone()];
        session.insert_new(&table, &rows.concat()).await.expect("rows");
        session.insert_new(&table, &row("a", 1)).await.expect("is left as it is");
        let keys = [text("a"), Cell::Integer(1), text("é "), Cell::Integer(-1), text("b"), Cell::Integer(1)];
        let mut found = session.rows_by_key(&table, &keys).await.expect("rows");
        found.sort();
        assert_eq!(found, [row("a", 1), nulls]);
        let mut other = row("a", 1);
        other[2] = text("other");
        session.put(&table, &other).await.expect("is replaced");
        assert_eq!(session.rows_by_key(&table, &keys[..2]).await, Ok(vec![other.clone()]));
        session.remove(&table, &row("a", 1)).await.expect("is another row");
        session.remove(&table, &other).await.expect("goes");
        assert_eq!(session.rows_by_key(&table, &keys[..2]).await, Ok(vec![]));
        let count = session.rows("SELECT COUNT(*) FROM \"every kind\"", &[]).await;
        assert_eq!(count, Ok(vec![vec![Cell::Integer(3)]]));
    }

    #[tokio::test]
    async fn amounts_are_added_exactly() {
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
    async fn neighbours_are_the_next_numbers_with_the_same_other_key_columns() {
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
    async fn a_value_that_does_not_fit_is_reported_with_its_column_and_fits_after_the_column_is_widened() {
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

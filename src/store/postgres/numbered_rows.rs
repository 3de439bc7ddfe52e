//! Rows that have a number and no key. Their numbers are drawn from the table's own sequence, and the rows are copied
//! in with them. COPY is the fastest way to insert, and this way the number of each row is known.

use std::pin::Pin;

use bytes::{BufMut, Bytes, BytesMut};
use event::limits::POSTGRES_COPY_PIECE_BYTES;
use futures_sink::Sink;
use tokio_postgres::{CopyInSink, Error};

use super::Session;
use super::cells::ColumnType;
use super::statements;
use super::verbs::{all_written, does_not_fit};
use crate::store::StoreError;
use crate::store::cell::{Cell, CellRef};
use crate::store::numbered_rows::Rows;
use crate::store::tables::{Table, quote};

impl Session {
    pub async fn insert_numbered(&mut self, table: &Table, rows: &Rows) -> Result<Vec<i64>, StoreError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        // Types that are looked up within the transaction cannot change before its end. Bytes in the format of
        // another type could be stored as a wrong value.
        self.prepared.forget_column_types();
        let column_types = self.column_types(table).await?;
        let numbers = self.draw_numbers(table, rows.len()).await?;
        let statement = self.statement(&statements::copy(table, table.number_column())).await?;
        let copied = self.statement_timeout.wait(self.client.copy_in::<_, Bytes>(&statement)).await?;
        let mut copy = Box::pin(copied.map_err(|error| self.classify(&error))?);
        let mut encoder = Encoder { table, column_types: &column_types, bytes: BytesMut::new() };
        encoder.bytes.put_slice(HEADER);
        let mut cells = rows.cells();
        for number in &numbers {
            encoder.row(*number, &mut cells)?;
            if encoder.bytes.len() >= POSTGRES_COPY_PIECE_BYTES {
                let chunk = encoder.bytes.split().freeze();
                let sent = self.statement_timeout.wait(send(copy.as_mut(), chunk)).await?;
                sent.map_err(|error| self.classify(&error))?;
            }
        }
        encoder.bytes.put_i16(END);
        let sent = self.statement_timeout.wait(send(copy.as_mut(), encoder.bytes.freeze())).await?;
        sent.map_err(|error| self.classify(&error))?;
        let finished = self.statement_timeout.wait(copy.as_mut().finish()).await?;
        let written = finished.map_err(|error| self.classify(&error))?;
        all_written(table, written, numbers.len())?;
        Ok(numbers)
    }

    /// Draws numbers from the table's own sequence that no row has. If rows were inserted with numbers of their own,
    /// the sequence is behind them and is first moved past them.
    async fn draw_numbers(&mut self, table: &Table, count: usize) -> Result<Vec<i64>, StoreError> {
        let sequence = self.sequence(table).await?;
        let parameters = [Cell::Integer(sequence), Cell::Integer(count as i64)];
        let sql = statements::draw_numbers(table, table.number_column());
        let mut drawn = self.drawn(table, &sql, &parameters).await?;
        if drawn.taken {
            // Under a lock: two sessions that move the sequence at once could move it back.
            self.rows(statements::LOCK_NUMBERS, &parameters[..1]).await?;
            let of_both = [Cell::Integer(sequence), Cell::Integer(sequence)];
            self.rows(&statements::advance_sequence(table, table.number_column()), &of_both).await?;
            drawn = self.drawn(table, &sql, &parameters).await?;
        }
        Ok(drawn.numbers)
    }

    async fn drawn(&mut self, table: &Table, sql: &str, parameters: &[Cell]) -> Result<Drawn, StoreError> {
        let row = self.rows(sql, parameters).await?.pop();
        let drawn = match row.as_deref() {
            Some([Cell::Integer(low), Cell::Integer(high), Cell::Null, Cell::Integer(taken)]) => {
                Some(Drawn { numbers: (*low..=*high).collect(), taken: *taken == 1 })
            }
            Some([_, _, Cell::Text(each), Cell::Integer(taken)]) => {
                let numbers: Result<Vec<i64>, _> = each.split(' ').map(str::parse).collect();
                numbers.ok().map(|numbers| Drawn { numbers, taken: *taken == 1 })
            }
            _ => None,
        };
        drawn.ok_or_else(|| {
            StoreError::Blocked(format!("the numbers of table `{}` are not integers", table.name))
        })
    }

    /// Returns the sequence that the number column owns or that its default uses.
    pub(super) async fn sequence(&mut self, table: &Table) -> Result<i64, StoreError> {
        let parameters =
            [quote(&table.name).as_str(), table.number_column()].map(|name| Cell::Text(name.to_owned()));
        let rows = self.rows(statements::SEQUENCE, &parameters).await?;
        match rows.first().and_then(|row| row.first()) {
            Some(Cell::Integer(sequence)) => Ok(*sequence),
            _ if !self.exists(&table.name).await? => Err(StoreError::NoTable(table.name.clone())),
            _ => Err(StoreError::Blocked(format!(
                "column `{}` of table `{}` is not numbered by a sequence",
                table.number_column(),
                table.name
            ))),
        }
    }

    pub async fn restore_numbered(
        &mut self,
        table: &Table,
        numbers: &[i64],
        rows: &Rows,
    ) -> Result<(), StoreError> {
        if numbers.is_empty() {
            return Ok(());
        }
        let mut cells = rows.cells();
        let mut cell_refs = Vec::with_capacity(numbers.len() * (table.columns.len() + 1));
        for number in numbers {
            cell_refs.push(CellRef::Integer(*number));
            cell_refs.extend(cells.by_ref().take(table.columns.len()));
        }
        let encoded = self.arrays(table, table.columns.len(), true, &cell_refs).await?;
        let statement = self
            .statement(&statements::restore_numbered(table, table.number_column(), &encoded.array_types))
            .await?;
        let written = self.execute(&statement, &encoded.arrays).await?;
        all_written(table, written, numbers.len())
    }

    pub async fn delete_numbers(&mut self, table: &Table, numbers: &[i64]) -> Result<(), StoreError> {
        let numbers = super::verbs::integers(numbers);
        let statement = self.statement(&statements::delete_numbers(table, table.number_column())).await?;
        self.execute(&statement, &[numbers]).await.map(drop)
    }
}

/// Numbers that were drawn from a sequence.
struct Drawn {
    numbers: Vec<i64>,
    /// A row has one of them already.
    taken: bool,
}

/// The header of the binary COPY format, without flags and without an extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const END: i16 = -1;

/// Encodes rows in the binary COPY format: the number of values, then each value after its length.
struct Encoder<'t> {
    table: &'t Table,
    /// The type of the number column, then those of the other columns.
    column_types: &'t [ColumnType],
    bytes: BytesMut,
}

impl Encoder<'_> {
    fn row<'v>(
        &mut self,
        number: i64,
        cells: &mut impl Iterator<Item = CellRef<'v>>,
    ) -> Result<(), StoreError> {
        let (id_type, column_types) =
            self.column_types.split_first().expect("a table with one row per event has a number column");
        self.bytes.put_i16(self.column_types.len() as i16);
        let numbered = CellRef::Integer(number).put_sized(&id_type.kind, &mut self.bytes);
        // Not caused by an event: block the view, do not dead-letter.
        numbered.map_err(|error| {
            StoreError::Blocked(format!(
                "a number for column `{}` of table `{}` {error}",
                self.table.number_column(),
                self.table.name
            ))
        })?;
        for (column_type, column) in column_types.iter().zip(&self.table.columns) {
            let cell = cells.next().unwrap_or(CellRef::Null);
            let put = cell
                .fit_to(column_type)
                .and_then(|fitted| fitted.put_sized(&column_type.kind, &mut self.bytes));
            put.map_err(|error| does_not_fit(self.table, &column.name, &error))?;
        }
        Ok(())
    }
}

async fn send(mut copy: Pin<&mut CopyInSink<Bytes>>, chunk: Bytes) -> Result<(), Error> {
    std::future::poll_fn(|cx| copy.as_mut().poll_ready(cx)).await?;
    copy.as_mut().start_send(chunk)?;
    std::future::poll_fn(|cx| copy.as_mut().poll_flush(cx)).await
}

#[cfg(test)]
mod tests {
    use event::{Decimal, Millis, Value};

    use super::*;
    use crate::store::postgres::test_server;
    use crate::store::remote::begin::Begin;
    use crate::store::tables::{Column, ColumnKind};

    fn table() -> Table {
        let column = |name: &str, kind| Column { name: name.to_owned(), kind, null: true };
        let columns = vec![
            column("what", ColumnKind::Text { chars_max: 255 }),
            column("n", ColumnKind::Integer),
            column("price", ColumnKind::Decimal),
            column("at", ColumnKind::Time),
            column("yes", ColumnKind::Boolean),
            column("payload", ColumnKind::Json),
        ];
        Table::numbered("t", "id", columns)
    }

    fn rows(count: usize) -> Rows {
        let mut rows = Rows::new(6);
        for index in 0..count {
            rows.push(&Value::Text(format!("é {index}").into()));
            rows.push(&Value::Integer(index as i64));
            rows.push(&Value::Decimal(Decimal::amount("-10.99").expect("a number")));
            rows.push(&Value::Time(Millis(1_999)));
            rows.push(&Value::Boolean(index % 2 == 0));
            rows.push(&if index % 2 == 0 { Value::Absent } else { Value::Any("[1]") });
        }
        rows
    }

    /// The table that millrace creates, those of the replaced services, and every way in which PostgreSQL numbers
    /// rows.
    const TABLES: [&str; 5] = [
        "",
        "CREATE TABLE t (id SERIAL PRIMARY KEY, what VARCHAR(255) NOT NULL, n INT NOT NULL, price DECIMAL(10,2), at TIMESTAMP, yes INT, payload JSONB, made TIMESTAMP DEFAULT now())",
        "CREATE TABLE t (at TIMESTAMP(0), id INT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, yes SMALLINT, payload TEXT, what TEXT, n NUMERIC, price NUMERIC)",
        "CREATE SEQUENCE s; CREATE TABLE t (id BIGINT PRIMARY KEY DEFAULT nextval('s'), what TEXT, n SMALLINT, price NUMERIC, at TIMESTAMPTZ, yes BOOLEAN, payload JSON)",
        "CREATE DOMAIN name AS VARCHAR(300); CREATE TABLE t (id BIGSERIAL UNIQUE, what name, n BIGINT, price NUMERIC(38,4), at TIMESTAMPTZ(3), yes BOOLEAN, payload JSON)",
    ];

    #[tokio::test]
    async fn rows_are_copied_in_with_numbers_from_the_table() {
        for sql in TABLES {
            let mut session = test_server::shared().session().await;
            match sql {
                "" => session.create(&table()).await.expect("a table"),
                sql => session.batch(sql).await.expect("a table"),
            }
            session.begin(Begin::Writing).await.expect("begins");
            let numbers = session.insert_numbered(&table(), &rows(5_000)).await.expect(sql);
            assert_eq!(numbers, (1..=5_000).collect::<Vec<i64>>(), "{sql}");
            assert_eq!(session.insert_numbered(&table(), &rows(1)).await, Ok(vec![5_001]), "{sql}");
            session.commit().await.expect("commits");
            let count =
                session.rows("SELECT count(*) FROM t WHERE what = 'é ' || n AND id IN (n + 1, 5001)", &[]);
            assert_eq!(count.await, Ok(vec![vec![Cell::Integer(5_001)]]), "{sql}");
            let shown = session.rows("SELECT what, price, yes, payload FROM t WHERE id = 5000", &[]).await;
            let price = Cell::Decimal("-10.99".parse().expect("a number"));
            let mut shown = shown.expect("a row").remove(0);
            assert_eq!(shown.pop(), Some(Cell::Text("[1]".to_owned())), "{sql}");
            assert_eq!(shown, [Cell::Text("é 4999".to_owned()), price, Cell::Integer(0)], "{sql}");
            session.restore_numbered(&table(), &[3, 9_000], &rows(2)).await.expect(sql);
            session.delete_numbers(&table(), &[2, 5_000, 7_777]).await.expect(sql);
            let ends =
                session.rows("SELECT what, id FROM t WHERE id IN (2, 3, 5000, 9000) ORDER BY id", &[]).await;
            let row = |what: &str, id| vec![Cell::Text(what.to_owned()), Cell::Integer(id)];
            assert_eq!(ends, Ok(vec![row("é 0", 3), row("é 1", 9_000)]), "{sql}");
        }
    }

    #[tokio::test]
    async fn numbers_that_were_inserted_by_hand_are_not_used_again() {
        let mut session = test_server::shared().session().await;
        session.create(&table()).await.expect("a table");
        session.batch("INSERT INTO t (id, what) VALUES (2, 'mine'), (70, 'mine')").await.expect("rows");
        let numbers = session.insert_numbered(&table(), &rows(3)).await.expect("rows");
        assert_eq!(numbers, [71, 72, 73]);
    }

    #[tokio::test]
    async fn numbers_with_gaps_are_those_of_the_rows() {
        let mut session = test_server::shared().session().await;
        session
            .batch("CREATE SEQUENCE s INCREMENT 3; CREATE TABLE t (id BIGINT PRIMARY KEY DEFAULT nextval('s'), what TEXT, n BIGINT, price NUMERIC, at TIMESTAMPTZ, yes BOOLEAN, payload JSON)")
            .await
            .expect("a table");
        assert_eq!(session.insert_numbered(&table(), &rows(3)).await, Ok(vec![1, 4, 7]));
        let found = session.rows("SELECT id FROM t WHERE what = 'é ' || n AND id = 3 * n + 1", &[]).await;
        assert_eq!(found.expect("rows").len(), 3);
    }

    #[tokio::test]
    async fn a_session_is_usable_after_a_row_that_does_not_fit() {
        let mut session = test_server::shared().session().await;
        session.batch("CREATE TABLE t (id SERIAL PRIMARY KEY, what VARCHAR(255), n SMALLINT, price DECIMAL(10,1), at TIMESTAMP, yes BOOLEAN, payload JSON)").await.expect("a table");
        for _ in 0..2 {
            session.begin(Begin::Writing).await.expect("begins");
            match session.insert_numbered(&table(), &rows(2)).await {
                Err(StoreError::Data(reason)) => assert!(reason.contains("`price`"), "{reason}"),
                other => panic!("{other:?}"),
            }
            session.rollback().await.expect("rolls back");
        }
        session.batch("ALTER TABLE t ALTER price TYPE NUMERIC").await.expect("the type is changed");
        session.begin(Begin::Writing).await.expect("begins");
        session.insert_numbered(&table(), &rows(40_000)).await.expect_err("the last numbers exceed SMALLINT");
        session.rollback().await.expect("rolls back");
        session.insert_numbered(&table(), &rows(2)).await.expect("goes on");
    }
}

//! Writes and finds rows in tables that have a key.

use event::limits::MYSQL_KEYS_PER_STATEMENT_MAX;

use super::row_statements::{StatementResult, largest_power};
use super::{Session, cells, statements};
use crate::store::StoreError;
use crate::store::cell::Cell;
use crate::store::tables::Table;

impl Session {
    pub async fn add(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError> {
        let flavour = self.flavour;
        let written = self.write_cells(table, cells, |rows| statements::add(table, rows, flavour)).await?;
        self.all_written(table, &written)
    }

    pub async fn insert_new(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError> {
        let written = self.write_cells(table, cells, |rows| statements::insert_new(table, rows)).await?;
        self.all_written(table, &written)
    }

    pub async fn put(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError> {
        let flavour = self.flavour;
        let written = self.write_cells(table, cells, |rows| statements::put(table, rows, flavour)).await?;
        self.all_written(table, &written)
    }

    pub async fn remove(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError> {
        let rows_max = MYSQL_KEYS_PER_STATEMENT_MAX * table.columns.len();
        for cells in cells.chunks(rows_max) {
            self.write_cells(table, cells, |rows| statements::remove(table, rows)).await?;
        }
        Ok(())
    }

    async fn write_cells(
        &mut self,
        table: &Table,
        cells: &[Cell],
        statement: impl Fn(usize) -> String + Send,
    ) -> Result<Vec<StatementResult>, StoreError> {
        self.write_rows(table.columns.len(), cells.iter().map(cells::value), statement).await
    }

    /// Fails if a statement matched fewer rows than it wrote. An updated row counts as two, an unchanged one as one.
    pub(super) fn all_written(
        &mut self,
        table: &Table,
        written: &[StatementResult],
    ) -> Result<(), StoreError> {
        let short = written.iter().find(|(rows, result)| result.matched < *rows as u64);
        match short {
            None => Ok(()),
            Some((rows, result)) => {
                self.transaction_failed = true;
                let (name, matched) = (&table.name, result.matched);
                Err(StoreError::Blocked(format!("table `{name}` accepted {matched} of {rows} rows")))
            }
        }
    }

    pub async fn rows_by_key(&mut self, table: &Table, keys: &[Cell]) -> Result<Vec<Vec<Cell>>, StoreError> {
        let mut found = Vec::new();
        for (count, keys) in power_of_two_chunks(keys, table.key_columns) {
            let parameters = keys.iter().map(cells::value).collect::<Result<_, _>>()?;
            found.extend(self.read(&statements::rows_by_key(table, count), parameters).await?);
        }
        Ok(found)
    }

    pub async fn neighbours(
        &mut self,
        table: &Table,
        keys: &[Cell],
    ) -> Result<Vec<(Option<i64>, Option<i64>)>, StoreError> {
        let mut answers = Vec::with_capacity(keys.len() / table.key_columns);
        for (count, keys) in power_of_two_chunks(keys, table.key_columns) {
            // The statement contains each key twice.
            let twice = keys.chunks(table.key_columns).flat_map(|key| key.iter().chain(key));
            let parameters = twice.map(cells::value).collect::<Result<_, _>>()?;
            let rows = self.read(&statements::neighbours(table, count), parameters).await?;
            let base = answers.len();
            answers.resize(base + count, (None, None));
            for row in rows {
                let [Cell::Integer(index), before, after] = row.as_slice() else { continue };
                answers[base + *index as usize] = (before.integer(), after.integer());
            }
        }
        Ok(answers)
    }
}

/// Splits keys into chunks whose sizes are powers of two, and yields each size with its chunk.
pub(super) fn power_of_two_chunks<T>(keys: &[T], width: usize) -> impl Iterator<Item = (usize, &[T])> {
    let mut rest = keys;
    std::iter::from_fn(move || {
        let count = largest_power((rest.len() / width).min(MYSQL_KEYS_PER_STATEMENT_MAX));
        let (chunk, after) = rest.split_at_checked(count * width).filter(|(chunk, _)| !chunk.is_empty())?;
        rest = after;
        Some((count, chunk))
    })
}

#[cfg(test)]
mod tests {
    use event::{Decimal, Millis};

    use super::*;
    use crate::store::mysql::test_server::{Mariadb, connected, session};
    use crate::store::remote::begin::Begin;
    use crate::store::tables::{Column, ColumnKind};
    use crate::store::{Password, PasswordFrom};

    const WORD: ColumnKind = ColumnKind::Text { chars_max: 255 };

    fn text(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }

    fn amount(text: &str) -> Cell {
        Cell::Decimal(text.parse::<Decimal>().expect("an amount"))
    }

    fn ledger() -> Table {
        Table::new("ledger", 1, &[("who", WORD), ("sum", ColumnKind::Decimal)])
    }

    #[tokio::test]
    async fn amounts_are_added_exactly_and_users_compare_byte_for_byte() {
        let (mut session, _) = session().await;
        session.create(&ledger()).await.expect("made");
        session.create(&ledger()).await.expect("there already");
        let users = ["a", "A", "é", "e\u{301}", "a ", "", "🦀", "\0"];
        let large = "9999999999999999999999999999999999.9999";
        for round in ["0.0001", "999999999999999.9999"] {
            session.begin(Begin::Writing).await.expect("begun");
            let cells: Vec<Cell> = users.iter().flat_map(|user| [text(user), amount(round)]).collect();
            session.add(&ledger(), &cells).await.expect("added");
            session.commit().await.expect("committed");
        }
        let keys: Vec<Cell> = users.iter().map(|user| text(user)).collect();
        let mut found = session.rows_by_key(&ledger(), &keys).await.expect("found");
        found.sort();
        let mut expected: Vec<_> =
            users.iter().map(|user| vec![text(user), amount("1000000000000000")]).collect();
        expected.sort();
        assert_eq!(found, expected);
        session.put(&ledger(), &[text("a"), amount(large)]).await.expect("put");
        session.begin(Begin::Writing).await.expect("begun");
        let outcome = session.add(&ledger(), &[text("a"), amount("1")]).await;
        assert!(matches!(outcome, Err(StoreError::Data(_))), "{outcome:?}");
        assert!(session.commit().await.is_err());
        session.rollback().await.expect("rolled back");
        session.remove(&ledger(), &[text("a"), amount("1")]).await.expect("nothing like it");
        session.remove(&ledger(), &[text("A"), amount("1000000000000000")]).await.expect("removed");
        let sql = r#"SELECT COUNT(*), MAX("sum") FROM "ledger" WHERE "sum" >= ?"#;
        let rows = session.rows(sql, &[amount("1000000000000000")]).await.expect("rows");
        assert_eq!(rows, [vec![Cell::Integer(7), amount(large)]]);
    }

    #[tokio::test]
    async fn a_row_with_an_existing_key_or_unique_value_is_left_alone() {
        let (mut session, _) = session().await;
        let columns = [("id", WORD), ("event", WORD), ("n", ColumnKind::Integer)];
        let table = Table { unique: Some(1), ..Table::new("t", 1, &columns) };
        session.create(&table).await.expect("made");
        let row = |id: &str, event: &str, n| [text(id), text(event), Cell::Integer(n)];
        session.insert_new(&table, &row("1", "a", 1)).await.expect("new");
        let rows = [row("1", "b", 2), row("2", "a", 3), row("3", "c", 4)].concat();
        session.insert_new(&table, &rows).await.expect("one is new");
        let all = session.rows(r#"SELECT * FROM "t" ORDER BY "id""#, &[]).await.expect("rows");
        assert_eq!(all, [row("1", "a", 1), row("3", "c", 4)]);
        let long = "x".repeat(256);
        let outcome = session.insert_new(&table, &row("4", &long, 5)).await;
        assert_eq!(outcome, Err(StoreError::Data("column `event`: a text is too long".to_owned())));
    }

    #[tokio::test]
    async fn neighbours_are_found_by_keys_that_differ_only_at_their_ends() {
        let (mut session, _) = session().await;
        let number = ColumnKind::Integer;
        let columns = [("grp", WORD), ("member", WORD), ("day", number), ("n", number)];
        let table = Table::new("members", 3, &columns);
        session.create(&table).await.expect("made");
        let key = |member: &str, day| [text(&"g".repeat(255)), text(member), Cell::Integer(day)].to_vec();
        let row = |member: &str, day| [key(member, day), vec![Cell::Integer(1)]].concat();
        let long = |end: &str| "m".repeat(254) + end;
        let rows = [row(&long("a"), 1), row(&long("a"), 5), row(&long("b"), 3), row(&long("a"), 9)].concat();
        session.add(&table, &rows).await.expect("added");
        session.add(&table, &row(&long("a"), 5)).await.expect("added");
        let keys = [key(&long("a"), 5), key(&long("b"), 3), key(&long("c"), 3), key(&long("a"), 7)].concat();
        let neighbours = session.neighbours(&table, &keys).await.expect("neighbours");
        assert_eq!(neighbours, [(Some(1), Some(9)), (None, None), (None, None), (Some(5), Some(9))]);
        let found = session.rows_by_key(&table, &keys).await.expect("found");
        assert_eq!(found.len(), 2);
        assert!(found.contains(&[key(&long("a"), 5), vec![Cell::Integer(2)]].concat()));
    }

    #[tokio::test]
    async fn batches_of_any_size_are_written_completely() {
        let (mut session, _) = session().await;
        session.create(&ledger()).await.expect("made");
        for rows in [1_usize, 2, 3, 1_023, 5_000] {
            let cells = (0..rows).flat_map(|row| [text(&row.to_string()), amount("1")]);
            session.add(&ledger(), &cells.collect::<Vec<_>>()).await.expect("added");
        }
        let sql = r#"SELECT CAST(SUM("sum") AS DECIMAL(38,4)), COUNT(*) FROM "ledger""#;
        let rows = session.rows(sql, &[]).await.expect("rows");
        assert_eq!(rows, [vec![amount("6029"), Cell::Integer(5_000)]]);
    }

    #[tokio::test]
    async fn every_kind_of_value_is_read_back_unchanged() {
        let (mut session, _) = session().await;
        let column = |name: &str, kind| Column { name: name.to_owned(), kind, null: true };
        let kinds = [
            ("text", ColumnKind::Text { chars_max: 20_000 }, text("a ")),
            ("long", ColumnKind::LongText, text(&"é".repeat(600_000))),
            ("json", ColumnKind::Json, text(&("[".repeat(60) + "1.10" + &"]".repeat(60)))),
            ("number", ColumnKind::Integer, Cell::Integer(i64::MIN)),
            ("amount", ColumnKind::Decimal, amount("-9999999999999999999999999999999999.9999")),
            ("time", ColumnKind::Time, Cell::Time(Millis(1_762_000_000_999))),
            ("truth", ColumnKind::Boolean, Cell::Integer(1)),
            ("bytes", ColumnKind::Bytes { bytes_max: 4 }, Cell::Bytes(vec![0, 255, 0x27, 0])),
            ("blob", ColumnKind::LongBytes, Cell::Bytes(vec![0xfe; 100_000])),
        ];
        let mut columns = vec![Column { name: "key".to_owned(), kind: ColumnKind::Integer, null: false }];
        columns.extend(kinds.iter().map(|(name, kind, _)| column(name, *kind)));
        let table = Table { columns, ..Table::new("kinds", 1, &[]) };
        session.create(&table).await.expect("made");
        let row: Vec<Cell> =
            std::iter::once(Cell::Integer(1)).chain(kinds.iter().map(|(_, _, cell)| cell.clone())).collect();
        let mut empty = vec![Cell::Null; row.len()];
        empty[0] = Cell::Integer(2);
        session.put(&table, &[row.clone(), empty.clone()].concat()).await.expect("put");
        session.put(&table, &row).await.expect("put again");
        assert_eq!(
            session.rows_by_key(&table, &[Cell::Integer(1), Cell::Integer(2)]).await,
            Ok(vec![row, empty])
        );
    }

    #[tokio::test]
    async fn a_reader_sees_one_snapshot_and_a_writer_what_others_committed() {
        let (mut session, url) = session().await;
        session.create(&ledger()).await.expect("made");
        let mut reader = connected(&url).await;
        let mut writer = connected(&url).await;
        reader.begin(Begin::Reading).await.expect("begun");
        writer.begin(Begin::Writing).await.expect("begun");
        session.add(&ledger(), &[text("a"), amount("1")]).await.expect("added");
        let sql = r#"SELECT COUNT(*) FROM "ledger""#;
        assert_eq!(reader.rows(sql, &[]).await, Ok(vec![vec![Cell::Integer(0)]]));
        assert_eq!(writer.rows(sql, &[]).await, Ok(vec![vec![Cell::Integer(1)]]));
        let outcome = reader.add(&ledger(), &[text("a"), amount("1")]).await;
        assert!(outcome.is_err(), "a reader cannot write");
        reader.rollback().await.expect("rolled back");
        writer.commit().await.expect("committed");
        let changed =
            writer.change(r#"UPDATE "ledger" SET "sum" = "sum" WHERE "who" = ?"#, &[text("a")]).await;
        assert_eq!(changed, Ok(1));
        writer.lock("a").await.expect("locked");
        session.lock("b").await.expect("another one");
        writer.unlock("a").await.expect("unlocked");
        session.lock("a").await.expect("locked");
        assert_eq!(
            writer.rows("SELECT 1 FROM nowhere", &[]).await,
            Err(StoreError::NoTable("nowhere".to_owned()))
        );
    }

    #[tokio::test]
    async fn the_preflight_creates_the_database_and_explains_refusals() {
        let url = Mariadb::shared().url("test_created_by_preflight");
        let server = crate::store::mysql::Server::parse(&url, &Password::default()).expect("a url");
        assert_eq!(server.preflight().await, Ok(Vec::new()));
        connected(&url).await;
        let wrong = crate::store::mysql::Server::parse(
            &url,
            &Password::new(PasswordFrom::Environment("wrong".to_owned())),
        )
        .expect("a url");
        let Err(StoreError::Blocked(refusal)) = wrong.preflight().await else {
            panic!("the login was accepted")
        };
        assert!(refusal.contains("`millrace`") && !refusal.contains("wrong"), "{refusal}");
        let other = Mariadb::shared().url("elsewhere");
        let other = crate::store::mysql::Server::parse(&other, &Password::default()).expect("a url");
        let Err(StoreError::Blocked(refusal)) = other.preflight().await else {
            panic!("the database was created")
        };
        assert!(refusal.contains("CREATE DATABASE IF NOT EXISTS `elsewhere`"), "{refusal}");
    }
}

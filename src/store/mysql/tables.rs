//! Creates, replaces and drops tables. Must not be called within a transaction, because these statements commit it.

use event::limits::{MYSQL_PAGE_ROW_BYTES_MAX, MYSQL_ROW_BYTES_MAX, MYSQL_VARCHAR_CHARS_MAX};
use mysql_async::Value;
use sha2::{Digest, Sha256};

use super::{Flavour, Session, statements};
use crate::store::StoreError;
use crate::store::cell::Cell;
use crate::store::tables::{Column, ColumnKind, Table, quote};

const BYTES_PER_CHAR_MAX: u32 = 4;

pub fn create_table(table: &Table, flavour: Flavour) -> String {
    let mut declared: Vec<String> = Vec::new();
    declared.extend(
        table.id.as_ref().map(|id| format!("{} BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY", quote(id))),
    );
    declared.extend((0..table.columns.len()).map(|index| column(table, index)));
    declared.extend(table.primary_key());
    declared.extend(table.unique.map(|index| format!("UNIQUE ({})", quote(&table.columns[index].name))));
    if table.ranking.is_some() {
        declared.push(ranking(table));
    }
    format!(
        "CREATE TABLE IF NOT EXISTS {} ({}) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={}",
        quote(&table.name),
        declared.join(", "),
        flavour.collation()
    )
}

fn column(table: &Table, index: usize) -> String {
    let column = &table.columns[index];
    let null = if column.null { "NULL" } else { "NOT NULL" };
    format!("{} {} {null}", quote(&column.name), kind(table, index))
}

/// Returns the type of a column in a table that millrace creates.
pub fn kind(table: &Table, index: usize) -> String {
    let column = &table.columns[index];
    let indexed = index < table.key_columns || table.unique == Some(index);
    match column.kind {
        ColumnKind::Text { chars_max } if indexed => format!("VARCHAR({chars_max})"),
        ColumnKind::Text { chars_max } => text(chars_max, fits_row(table)),
        // MySQL's JSON type converts numbers to doubles; MariaDB's refuses more than 32 levels of nesting.
        ColumnKind::LongText | ColumnKind::Json => "LONGTEXT".to_owned(),
        ColumnKind::Integer => "BIGINT".to_owned(),
        ColumnKind::Decimal => statements::DECIMAL.to_owned(),
        ColumnKind::Time => "DATETIME(3)".to_owned(),
        ColumnKind::Boolean => "BOOLEAN".to_owned(),
        ColumnKind::Bytes { bytes_max } => format!("VARBINARY({bytes_max})"),
        ColumnKind::LongBytes => "LONGBLOB".to_owned(),
    }
}

fn text(chars_max: u32, fits_row: bool) -> String {
    match chars_max {
        _ if fits_row && chars_max <= MYSQL_VARCHAR_CHARS_MAX => format!("VARCHAR({chars_max})"),
        0..=16_383 => "TEXT".to_owned(),
        16_384..=4_194_303 => "MEDIUMTEXT".to_owned(),
        4_194_304.. => "LONGTEXT".to_owned(),
    }
}

/// Returns whether the texts fit into a row, and whether what is never stored outside its page fits into that page.
fn fits_row(table: &Table) -> bool {
    let sizes = table.columns.iter().map(|column| match column.kind {
        ColumnKind::Text { chars_max } if chars_max <= MYSQL_VARCHAR_CHARS_MAX => {
            chars_max * BYTES_PER_CHAR_MAX
        }
        _ => 20,
    });
    let (row, page) =
        sizes.fold((0, 0), |(row, page), size| (row + size, page + if size < 256 { size } else { 40 }));
    row <= MYSQL_ROW_BYTES_MAX && page <= MYSQL_PAGE_ROW_BYTES_MAX
}

/// Declares the ranking's index: by group, then the largest number first, then the last column of the key.
fn ranking(table: &Table) -> String {
    let (group, last) = table.columns[..table.key_columns].split_at(table.key_columns - 1);
    let number = &table.columns[table.key_columns];
    let group = group.iter().map(|column| quote(&column.name));
    let parts = group.chain([format!("{} DESC", quote(&number.name)), quote(&last[0].name)]);
    format!("KEY \"millrace_ranking\" ({})", parts.collect::<Vec<_>>().join(", "))
}

impl Session {
    pub async fn exists(&mut self, table: &str) -> Result<bool, StoreError> {
        let sql =
            "SELECT 1 FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?";
        Ok(!self.read(sql, vec![Value::from(table)]).await?.is_empty())
    }

    pub async fn create(&mut self, table: &Table) -> Result<(), StoreError> {
        let sql = create_table(table, self.flavour);
        self.run(&sql).await
    }

    pub async fn index(&mut self, name: &str, table: &str, columns: &[&str]) -> Result<(), StoreError> {
        let sql = "SELECT 1 FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name = ? AND index_name = ? LIMIT 1";
        if !self.read(sql, vec![Value::from(table), Value::from(name)]).await?.is_empty() {
            return Ok(());
        }
        let columns: Vec<String> = columns.iter().map(|column| quote(column)).collect();
        let columns = columns.join(", ");
        self.run(&format!("CREATE INDEX {} ON {} ({columns})", quote(name), quote(table))).await
    }

    pub async fn add_missing_columns(&mut self, table: &Table) -> Result<(), StoreError> {
        let sql = "SELECT column_name FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ?";
        let existing = self.read(sql, vec![Value::from(table.name.as_str())]).await?;
        let exists = |column: &Column| {
            existing.iter().any(
                |row| matches!(row.as_slice(), [Cell::Text(name)] if name.eq_ignore_ascii_case(&column.name)),
            )
        };
        let missing = (0..table.columns.len()).filter(|index| !exists(&table.columns[*index]));
        let added: Vec<String> =
            missing.map(|index| format!("ADD COLUMN {}", column(table, index))).collect();
        if added.is_empty() {
            Ok(())
        } else {
            self.run(&format!("ALTER TABLE {} {}", quote(&table.name), added.join(", "))).await
        }
    }

    pub async fn drop_tables(&mut self, tables: &[Table]) -> Result<(), StoreError> {
        let names: Vec<String> = tables.iter().map(|table| quote(&table.name)).collect();
        self.drop_named(&names).await
    }

    async fn drop_named(&mut self, names: &[String]) -> Result<(), StoreError> {
        if names.is_empty() {
            Ok(())
        } else {
            self.run(&format!("DROP TABLE IF EXISTS {}", names.join(", "))).await
        }
    }

    /// Renames all tables in one statement, so that none is ever missing. The replaced tables are dropped afterwards.
    /// After an interruption they remain under another name until the next call.
    pub async fn replace_tables(&mut self, made: &[Table], wanted: &[Table]) -> Result<(), StoreError> {
        let replaced: Vec<String> = wanted.iter().map(|table| quote(&replaced_name(&table.name))).collect();
        self.drop_named(&replaced).await?;
        let mut renames = Vec::new();
        for ((made, wanted), replaced) in made.iter().zip(wanted).zip(&replaced) {
            let (made, name) = (quote(&made.name), quote(&wanted.name));
            if self.exists(&wanted.name).await? {
                renames.push(format!("{name} TO {replaced}"));
            }
            renames.push(format!("{made} TO {name}"));
        }
        if !renames.is_empty() {
            self.run(&format!("RENAME TABLE {}", renames.join(", "))).await?;
        }
        self.drop_named(&replaced).await
    }
}

/// Returns the name of a replaced table until it is dropped. It is a hash, because adding to the table's name could
/// exceed the database's limit.
fn replaced_name(table: &str) -> String {
    let hash = Sha256::digest(table.as_bytes());
    let hex = event::hex(&hash[..8]);
    format!("millrace_gone_{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tables::TopK;

    const WORD: ColumnKind = ColumnKind::Text { chars_max: 255 };

    #[test]
    fn a_ranking_is_ordered_by_the_largest_number_and_then_by_the_key() {
        let columns =
            [("grp", WORD), ("day", ColumnKind::Integer), ("value", WORD), ("n", ColumnKind::Integer)];
        let ranking = TopK { top_table: String::new(), floor_table: String::new(), limit_max: 9 };
        let counts = Table { ranking: Some(ranking), ..Table::new("c", 3, &columns) };
        let sql = create_table(&counts, Flavour::Mysql);
        assert!(sql.contains(r#"PRIMARY KEY ("grp", "day", "value")"#), "{sql}");
        assert!(sql.contains(r#"("grp", "day", "n" DESC, "value")"#), "{sql}");
    }

    #[test]
    fn texts_that_do_not_fit_into_a_row_get_a_text_type() {
        let kinds = |chars_max: u32, columns: usize| {
            let column = Column { name: "c".to_owned(), kind: ColumnKind::Text { chars_max }, null: true };
            let table = Table::numbered("t", "id", vec![column; columns]);
            kind(&table, 0)
        };
        assert_eq!(kinds(255, 10), "VARCHAR(255)");
        assert_eq!(kinds(255, 64), "TEXT");
        assert_eq!(kinds(50, 64), "TEXT");
        assert_eq!(kinds(5_000, 1), "TEXT");
        assert_eq!(kinds(20_000, 1), "MEDIUMTEXT");
    }

    #[tokio::test]
    async fn tables_are_replaced_even_after_an_interrupted_attempt() {
        let (mut session, _) = crate::store::mysql::test_server::session().await;
        let table = |name: &str| Table::new(name, 1, &[("id", WORD), ("n", ColumnKind::Integer)]);
        let wanted = [table("kept"), table("first")];
        let made = [table("kept_new"), table("first_new")];
        for round in 0..2 {
            for table in made.iter().chain(&wanted[..1]) {
                session.create(table).await.expect("made");
            }
            // Left behind by an interrupted attempt.
            session.create(&table(&replaced_name("kept"))).await.expect("made");
            let row = [Cell::Text("a".to_owned()), Cell::Integer(round)];
            session.put(&made[0], &row).await.expect("put");
            session.replace_tables(&made, &wanted).await.expect("in place");
            assert_eq!(session.rows_by_key(&wanted[0], &row[..1]).await, Ok(vec![row.to_vec()]));
            let tables = session.rows("SHOW TABLES", &[]).await.expect("tables");
            assert_eq!(tables.len(), 2, "{tables:?}");
        }
        let wide = Table::new(
            "kept",
            1,
            &[("id", WORD), ("N", ColumnKind::Integer), ("more", ColumnKind::LongText)],
        );
        for _ in 0..2 {
            session.add_missing_columns(&wide).await.expect("columns added");
            session.index("kept_n", "kept", &["n", "id"]).await.expect("an index");
        }
        let row = [Cell::Text("a".to_owned()), Cell::Integer(1), Cell::Text(String::new())];
        assert_eq!(session.rows_by_key(&wide, &row[..1]).await, Ok(vec![row.to_vec()]));
        assert_eq!((session.exists("kept").await, session.exists("Kept").await), (Ok(true), Ok(false)));
        session.drop_tables(&[wide, table("never")]).await.expect("dropped");
        assert_eq!(session.exists("kept").await, Ok(false));
    }
}

//! Whether a table that was there before its view can carry it: engine, columns, types, keys, collations. A
//! table that would round an amount or merge two users is refused, with the SQL that mends all of it.

use super::catalogue::{Catalogue, Found, Unique};
use super::{Flavour, Session, repair_sql};
use crate::store::StoreError;
use crate::store::tables::{ColumnKind, Table};

/// What is wrong with a table, and the part of an `ALTER TABLE` that mends it.
struct Fault {
    what: String,
    mend: String,
}

impl Session {
    pub async fn check(&mut self, table: &Table) -> Result<(), StoreError> {
        let catalogue = self.catalogue(&table.name).await?;
        let faults = faults(table, &catalogue, self.flavour);
        let Some(first) = faults.first() else { return Ok(()) };
        let mut mends: Vec<&str> = Vec::new();
        for fault in &faults {
            if !mends.contains(&fault.mend.as_str()) {
                mends.push(&fault.mend);
            }
        }
        let more = match mends.len() {
            1 => String::new(),
            count => format!(", and {} more to mend", count - 1),
        };
        Err(StoreError::Blocked(format!(
            "table `{}` {}{more}; to fix it, run: ALTER TABLE {} {}",
            table.name,
            first.what,
            repair_sql::name(&table.name),
            mends.join(", ")
        )))
    }
}

fn faults(table: &Table, catalogue: &Catalogue, flavour: Flavour) -> Vec<Fault> {
    let mut faults = Vec::new();
    if !catalogue.engine.as_deref().is_some_and(|engine| engine.eq_ignore_ascii_case("InnoDB")) {
        let engine = catalogue.engine.as_deref().unwrap_or("none");
        faults.push(Fault {
            what: format!("is kept by the engine {engine}, which cannot take back half of a batch"),
            mend: "ENGINE = InnoDB".to_owned(),
        });
    }
    for index in 0..table.columns.len() {
        faults.extend(of_column(table, index, catalogue, flavour));
    }
    let is_of = |found: &Found| {
        let own = table.columns.iter().map(|column| &column.name).chain(&table.id);
        own.into_iter().any(|own| own.eq_ignore_ascii_case(&found.name))
    };
    for found in catalogue.columns.iter().filter(|found| !is_of(found) && !found.fills_itself()) {
        faults.push(Fault {
            what: format!("has a column `{}` that must be given and has no default", found.name),
            mend: repair_sql::loosen(found, catalogue, flavour),
        });
    }
    match &table.id {
        Some(id) => faults.extend(of_number(id, catalogue)),
        None => faults.extend(of_keys(table, catalogue)),
    }
    faults
}

fn of_column(table: &Table, index: usize, catalogue: &Catalogue, flavour: Flavour) -> Option<Fault> {
    let column = &table.columns[index];
    let Some(found) = catalogue.column(&column.name) else {
        return Some(Fault {
            what: format!("has no column `{}`", column.name),
            mend: repair_sql::add_column(table, index, flavour),
        });
    };
    let (name, kind) = (&found.name, &found.full_kind);
    let keyed = index < table.key_columns || table.unique == Some(index);
    let what = if found.generated {
        format!("has a column `{name}` that the database computes")
    } else if !holds(table, index, found) {
        format!("has a column `{name}` of type {kind}, which does not keep every value exactly")
    } else if found.character_set.as_deref().is_some_and(|set| set != "utf8mb4") {
        let set = found.character_set.as_deref().unwrap_or_default();
        format!("has a column `{name}` in the character set {set}, which does not know every letter")
    } else if keyed && found.collation.as_deref().is_some_and(|collation| !tells_bytes_apart(collation)) {
        let collation = found.collation.as_deref().unwrap_or_default();
        format!("has a key `{name}` that compares by {collation} and not byte for byte")
    } else if column.null && !found.null {
        return Some(Fault {
            what: format!("has a column `{name}` that must be given, which not every event does"),
            mend: repair_sql::loosen(found, catalogue, flavour),
        });
    } else {
        return None;
    };
    Some(Fault { what, mend: repair_sql::modify(table, index, found, flavour) })
}

/// Those of both databases that compare bytes and leave no spaces out.
fn tells_bytes_apart(collation: &str) -> bool {
    ["utf8mb4_nopad_bin", "utf8mb4_0900_bin"].contains(&collation)
}

fn holds(table: &Table, index: usize, found: &Found) -> bool {
    let (kind, is) = (found.kind.as_str(), |kinds: &[&str]| kinds.contains(&found.kind.as_str()));
    let keyed = index < table.key_columns || table.unique == Some(index);
    match table.columns[index].kind {
        ColumnKind::Text { chars_max } if keyed => {
            kind == "varchar" && found.chars_max >= i64::from(chars_max)
        }
        // What is beside a key are words of ours; too long a one is an error, and never cut off.
        ColumnKind::Text { .. } if table.id.is_none() => is(&["varchar", "text", "mediumtext", "longtext"]),
        ColumnKind::Text { chars_max } => room(found) >= i64::from(chars_max),
        ColumnKind::LongText => is(&["mediumtext", "longtext"]),
        ColumnKind::Json => is(&["json", "mediumtext", "longtext"]),
        ColumnKind::Integer => found.is_integer(),
        // The events of a table with a row each say by themselves how many digits they have.
        ColumnKind::Decimal if table.id.is_some() => kind == "decimal" && found.scale > 0,
        ColumnKind::Decimal => kind == "decimal" && found.scale >= 4 && found.precision - found.scale >= 34,
        ColumnKind::Time => is(&["datetime", "timestamp"]),
        ColumnKind::Boolean => is(&["tinyint", "smallint", "mediumint", "int", "bigint", "bit"]),
        ColumnKind::Bytes { bytes_max } => kind == "varbinary" && found.chars_max >= i64::from(bytes_max),
        ColumnKind::LongBytes => is(&["mediumblob", "longblob"]),
    }
}

/// How many letters surely fit.
fn room(found: &Found) -> i64 {
    match found.kind.as_str() {
        "varchar" => found.chars_max,
        "tinytext" => 63,
        "text" => 16_383,
        "mediumtext" => 4_194_303,
        "longtext" => i64::MAX,
        _ => 0,
    }
}

fn of_number(id: &str, catalogue: &Catalogue) -> Option<Fault> {
    let numbers = catalogue.column(id).is_some_and(|found| found.is_integer() && found.is_numbered());
    let unique = catalogue.uniques.iter().any(|unique| unique.is_over(&[id]));
    (!numbers || !unique).then(|| Fault {
        what: format!("needs a column `{id}` that is its key and numbered by the database"),
        mend: repair_sql::number_rows(id, catalogue),
    })
}

fn of_keys(table: &Table, catalogue: &Catalogue) -> Vec<Fault> {
    let names: Vec<&str> =
        table.columns[..table.key_columns].iter().map(|column| column.name.as_str()).collect();
    let unique = table.unique.map(|index| [table.columns[index].name.as_str()]);
    let mut faults = Vec::new();
    if !catalogue.uniques.iter().any(|unique| unique.is_over(&names)) {
        let mend = repair_sql::add_unique("millrace_row_key", &names);
        faults.push(Fault { what: format!("needs a unique key over {}", listed(&names)), mend });
    }
    if let Some(unique) = &unique
        && !catalogue.uniques.iter().any(|there| there.is_over(unique))
    {
        let mend = repair_sql::add_unique(&format!("millrace_{}", unique[0]), unique);
        faults.push(Fault { what: format!("needs a unique key over {}", listed(unique)), mend });
    }
    let harmless = |there: &Unique| {
        there.covers(&names)
            || unique.is_some_and(|unique| there.covers(&unique))
            || there.columns.iter().flatten().any(|name| never_meets(table, catalogue, name))
    };
    for other in catalogue.uniques.iter().filter(|there| !harmless(there)) {
        faults.push(Fault {
            what: format!(
                "has a unique key `{}` beside that of the view, by which a row could meet another's",
                other.name
            ),
            mend: repair_sql::drop_unique(other),
        });
    }
    faults
}

/// Whether no two rows of the view hold the same in a column, because it is not the view's: empty, or numbered.
fn never_meets(table: &Table, catalogue: &Catalogue, name: &str) -> bool {
    let written = table.columns.iter().any(|column| column.name.eq_ignore_ascii_case(name));
    let empty = |found: &Found| {
        let no_default = found.default.as_deref().is_none_or(|default| default == "NULL");
        found.null && no_default && !found.generated
    };
    !written && catalogue.column(name).is_some_and(|found| found.is_numbered() || empty(found))
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::mysql::test_server::{Mariadb, session};
    use crate::store::tables::{Cell, Column};

    const WORD: ColumnKind = ColumnKind::Text { chars_max: 255 };
    /// A collation under which this server's tables tell bytes apart.
    const EXACT: &str = "CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin";

    fn revenue() -> Table {
        Table::new("t", 1, &[("user_id", WORD), ("revenue", ColumnKind::Decimal)])
    }

    fn inventory() -> Table {
        let column = |name: &str, kind, null| Column { name: name.to_owned(), kind, null };
        Table::numbered(
            "t",
            "id",
            vec![
                column("product_id", ColumnKind::Integer, false),
                column("product_name", WORD, true),
                column("price", ColumnKind::Decimal, false),
                column("created_at", ColumnKind::Time, false),
            ],
        )
    }

    fn notifications() -> Table {
        let columns = [
            ("id", WORD),
            ("event_id", WORD),
            ("event_type", WORD),
            ("payload", ColumnKind::Json),
            ("attempt_count", ColumnKind::Integer),
            ("created_at", ColumnKind::Time),
        ];
        Table { unique: Some(1), ..Table::new("t", 1, &columns) }
    }

    /// How often a table is refused until what the refusals say has made it right.
    async fn refusals(session: &mut Session, url: &str, table: &Table, sql: &str) -> usize {
        let server = Mariadb::shared();
        server.sql(url, &format!("DROP TABLE IF EXISTS t; {sql}"));
        let mut refusals = 0;
        while let Err(refusal) = session.check(table).await {
            let refusal = refusal.to_string();
            refusals += 1;
            assert!(refusals < 4, "{sql}: {refusal}");
            let (_, mend) = refusal.split_once("; to fix it, run: ").expect("a way to mend it");
            server.try_sql(url, mend).unwrap_or_else(|error| panic!("{sql}: {mend}: {error}"));
        }
        refusals
    }

    #[tokio::test]
    async fn the_tables_of_the_originals_are_taken_as_they_are() {
        let (mut session, url) = session().await;
        let tables = [
            (
                revenue(),
                format!(
                    "CREATE TABLE t (user_id VARCHAR(255) {EXACT} PRIMARY KEY, revenue DECIMAL(38,4) NOT NULL DEFAULT 0, updated TIMESTAMP)"
                ),
            ),
            (
                revenue(),
                format!(
                    "CREATE TABLE t (id BIGINT AUTO_INCREMENT PRIMARY KEY, user_id VARCHAR(300) {EXACT} NOT NULL UNIQUE, revenue DECIMAL(65,10), more INT, UNIQUE (user_id, revenue))"
                ),
            ),
            (
                inventory(),
                format!(
                    "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, product_id INT NOT NULL, product_name VARCHAR(255), quantity INT NOT NULL DEFAULT 0, price DECIMAL(10,2) NOT NULL DEFAULT 0.00, created_at DATETIME, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP) {EXACT}"
                ),
            ),
            (
                notifications(),
                format!(
                    "CREATE TABLE t (id VARCHAR(255) PRIMARY KEY, event_id VARCHAR(255) UNIQUE, event_type VARCHAR(50), payload JSON, attempt_count INT DEFAULT 0, created_at TIMESTAMP(6)) {EXACT}"
                ),
            ),
        ];
        for (table, sql) in tables {
            assert_eq!(refusals(&mut session, &url, &table, &sql).await, 0, "{sql}");
            session.drop_tables(std::slice::from_ref(&table)).await.expect("dropped");
            session.create(&table).await.expect("made");
            assert_eq!(session.check(&table).await, Ok(()), "as millrace makes it");
        }
        assert_eq!(
            session.check(&Table::new("none", 1, &[("a", WORD)])).await,
            Err(StoreError::NoTable("none".to_owned()))
        );
    }

    #[tokio::test]
    async fn what_a_refusal_names_mends_the_table_and_keeps_its_rows() {
        let (mut session, url) = session().await;
        for sql in [
            "CREATE TABLE t (user_id VARCHAR(255) PRIMARY KEY, revenue DECIMAL(38,4))",
            "CREATE TABLE t (user_id VARCHAR(255) PRIMARY KEY, revenue DECIMAL(38,4)) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
            "CREATE TABLE t (user_id VARCHAR(50) PRIMARY KEY, revenue INTEGER NOT NULL DEFAULT 7)",
            "CREATE TABLE t (user_id CHAR(200), revenue FLOAT)",
            "CREATE TABLE t (user_id TEXT, revenue NUMERIC) ENGINE=MyISAM",
            "CREATE TABLE t (user_id VARCHAR(255) PRIMARY KEY, revenue DECIMAL(38,4), mail VARCHAR(9) UNIQUE DEFAULT '', who INT NOT NULL, revenue_key DECIMAL(38,4) AS (revenue) UNIQUE)",
            "CREATE TABLE t (user_id VARCHAR(255), revenue DECIMAL(38,4), part INT NOT NULL, UNIQUE (user_id(10)), PRIMARY KEY (user_id, part))",
            "CREATE TABLE t (user_id BIGINT PRIMARY KEY, more TEXT NOT NULL)",
        ] {
            let made = format!("{sql}; SET sql_mode = ''; INSERT INTO t SET user_id = '7'");
            assert_eq!(refusals(&mut session, &url, &revenue(), &made).await, 1, "{sql}");
            let add = ["A", "a", "a ", "7", "🦀"]
                .map(|user| [Cell::Text(user.to_owned()), Cell::Decimal("1.5".parse().expect("an amount"))]);
            Mariadb::shared().sql(&url, "UPDATE t SET revenue = 0 WHERE revenue IS NOT NULL");
            session.add(&revenue(), &add.concat()).await.expect(sql);
            let rows =
                session.rows("SELECT COUNT(*), MIN(revenue), MAX(revenue) FROM t", &[]).await.expect("rows");
            let amount = Cell::Decimal("1.5".parse().expect("an amount"));
            assert_eq!(rows, [vec![Cell::Integer(5), amount.clone(), amount]], "{sql}");
        }
    }

    #[tokio::test]
    async fn a_table_of_numbered_rows_is_mended_by_what_the_refusal_names() {
        let (mut session, url) = session().await;
        for sql in [
            "CREATE TABLE t (id INT PRIMARY KEY, product_id INT, product_name VARCHAR(255), price DECIMAL(10,2), created_at DATETIME)",
            "CREATE TABLE t (id VARCHAR(9), product_id SMALLINT, product_name VARCHAR(100) NOT NULL, price DOUBLE, created_at DATE NOT NULL DEFAULT '2025-11-01')",
            "CREATE TABLE t (number BIGINT AUTO_INCREMENT PRIMARY KEY, product_id INT, product_name TINYTEXT, price NUMERIC, created_at VARCHAR(30))",
            "CREATE TABLE t (mail VARCHAR(20) NOT NULL PRIMARY KEY, product_id INT, price DECIMAL(9,4) AS (product_id * 2))",
            "CREATE TABLE t (id BIGINT AUTO_INCREMENT, product_id INT, product_name VARCHAR(255) NOT NULL DEFAULT 'it''s', price DECIMAL(10,2), created_at DATETIME, KEY (id)) CHARACTER SET utf8mb4",
        ] {
            let made = format!("{sql}; SET sql_mode = 'NO_ZERO_DATE'; INSERT INTO t SET product_id = 7");
            assert_eq!(refusals(&mut session, &url, &inventory(), &made).await, 1, "{sql}");
            let mut rows = crate::store::numbered_rows::Rows::new(4);
            for _ in 0..3 {
                rows.push(&event::Value::Integer(1));
                rows.push(&event::Value::Absent);
                rows.push(&event::Value::Decimal("1.5".parse().expect("an amount")));
                rows.push(&event::Value::Time(event::Millis(1_762_000_000_999)));
            }
            // A key of somebody else's takes one row that does not say what is in it.
            let numbers = session.number(&inventory(), &rows).await;
            assert_eq!(numbers.is_err(), sql.contains("mail"), "{sql}: {numbers:?}");
        }
    }
}

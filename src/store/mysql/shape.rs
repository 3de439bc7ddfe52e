//! Checks whether an existing table fits its view: engine, columns, types, keys, collations. A table that would round
//! an amount or merge two users is refused, with the SQL that repairs all problems.

use super::catalogue::{Catalogue, ExistingColumn, UniqueIndex};
use super::{Flavour, Session, repair_sql};
use crate::store::StoreError;
use crate::store::table_fault::TableFault;
use crate::store::tables::{ColumnKind, Table};

/// A problem of a table, and the part of an `ALTER TABLE` that repairs it.
struct Fault {
    problem: String,
    repair: String,
}

impl Session {
    /// Returns everything because of which the view cannot use the existing table.
    pub async fn table_fault(&mut self, table: &Table) -> Result<Option<TableFault>, StoreError> {
        let catalogue = self.catalogue(&table.name).await?;
        if catalogue.engine.is_none() {
            return Ok(Some(TableFault::name_taken(&table.name)));
        }
        let faults = faults(table, &catalogue, self.flavour);
        if faults.is_empty() {
            return Ok(None);
        }
        let (mut problems, mut repairs) = (Vec::new(), Vec::new());
        for Fault { problem, repair } in faults {
            problems.push(problem);
            if !repairs.contains(&repair) {
                repairs.push(repair);
            }
        }
        let repair = format!("ALTER TABLE {} {}", repair_sql::name(&table.name), repairs.join(", "));
        Ok(Some(TableFault { table: table.name.clone(), problems, repair: vec![repair] }))
    }
}

fn faults(table: &Table, catalogue: &Catalogue, flavour: Flavour) -> Vec<Fault> {
    let mut faults = Vec::new();
    if !catalogue.engine.as_deref().is_some_and(|engine| engine.eq_ignore_ascii_case("InnoDB")) {
        let engine = catalogue.engine.as_deref().unwrap_or_default();
        faults.push(Fault {
            problem: format!("uses the engine {engine}, which cannot roll back a batch"),
            repair: "ENGINE = InnoDB".to_owned(),
        });
    }
    for index in 0..table.columns.len() {
        faults.extend(column_fault(table, index, catalogue, flavour));
    }
    let is_declared = |found: &ExistingColumn| {
        let own = table.columns.iter().map(|column| &column.name).chain(&table.id);
        own.into_iter().any(|own| own.eq_ignore_ascii_case(&found.name))
    };
    for found in catalogue.columns.iter().filter(|found| !is_declared(found) && !found.may_be_omitted()) {
        faults.push(Fault {
            problem: format!("has a column `{}` that is NOT NULL and has no default", found.name),
            repair: repair_sql::make_optional(found, catalogue, flavour),
        });
    }
    match &table.id {
        Some(id) => faults.extend(id_fault(id, catalogue)),
        None => faults.extend(key_faults(table, catalogue)),
    }
    faults
}

fn column_fault(table: &Table, index: usize, catalogue: &Catalogue, flavour: Flavour) -> Option<Fault> {
    let column = &table.columns[index];
    let Some(found) = catalogue.column(&column.name) else {
        return Some(Fault {
            problem: format!("has no column `{}`", column.name),
            repair: repair_sql::add_column(table, index, flavour),
        });
    };
    let (name, kind) = (&found.name, &found.full_kind);
    let keyed = index < table.key_columns || table.unique == Some(index);
    let problem = if found.generated {
        format!("has a column `{name}` that the database computes, so millrace cannot write it")
    } else if !fits(table, index, found) {
        format!("has a column `{name}` of type {kind}, which does not store every value exactly")
    } else if found.character_set.as_deref().is_some_and(|set| set != "utf8mb4") {
        let set = found.character_set.as_deref().unwrap_or_default();
        format!("has a column `{name}` in the character set {set}, which does not support every character")
    } else if keyed && found.collation.as_deref().is_some_and(|collation| !compares_bytes(collation)) {
        let collation = found.collation.as_deref().unwrap_or_default();
        format!("has a key `{name}` with the collation {collation}, which does not compare byte for byte")
    } else if column.null && !found.null {
        return Some(Fault {
            problem: format!(
                "has a column `{name}` that is NOT NULL, but not every event has a value for it"
            ),
            repair: repair_sql::make_optional(found, catalogue, flavour),
        });
    } else {
        return None;
    };
    Some(Fault { problem, repair: repair_sql::modify(table, index, found, flavour) })
}

/// Returns whether a collation compares bytes and does not ignore trailing spaces.
fn compares_bytes(collation: &str) -> bool {
    ["utf8mb4_nopad_bin", "utf8mb4_0900_bin"].contains(&collation)
}

/// Returns whether the existing column stores every value of the declared one exactly.
fn fits(table: &Table, index: usize, found: &ExistingColumn) -> bool {
    let (kind, is) = (found.kind.as_str(), |kinds: &[&str]| kinds.contains(&found.kind.as_str()));
    let keyed = index < table.key_columns || table.unique == Some(index);
    match table.columns[index].kind {
        ColumnKind::Text { chars_max } if keyed => {
            kind == "varchar" && found.chars_max >= i64::from(chars_max)
        }
        // Outside the key, such tables contain only millrace's own words. Too long a text is an error, never
        // truncated.
        ColumnKind::Text { .. } if table.id.is_none() => is(&["varchar", "text", "mediumtext", "longtext"]),
        ColumnKind::Text { chars_max } => chars_capacity(found) >= i64::from(chars_max),
        ColumnKind::LongText => is(&["mediumtext", "longtext"]),
        ColumnKind::Json => is(&["json", "mediumtext", "longtext"]),
        ColumnKind::Integer => found.is_integer(),
        // With one row per event nothing is summed, so the events determine how many digits are needed.
        ColumnKind::Decimal if table.id.is_some() => kind == "decimal" && found.scale > 0,
        ColumnKind::Decimal => kind == "decimal" && found.scale >= 4 && found.precision - found.scale >= 34,
        ColumnKind::Time => is(&["datetime", "timestamp"]),
        ColumnKind::Boolean => is(&["tinyint", "smallint", "mediumint", "int", "bigint", "bit"]),
        ColumnKind::Bytes { bytes_max } => kind == "varbinary" && found.chars_max >= i64::from(bytes_max),
        ColumnKind::LongBytes => is(&["mediumblob", "longblob"]),
    }
}

/// Returns how many characters fit in any case.
fn chars_capacity(found: &ExistingColumn) -> i64 {
    match found.kind.as_str() {
        "varchar" => found.chars_max,
        "tinytext" => 63,
        "text" => 16_383,
        "mediumtext" => 4_194_303,
        "longtext" => i64::MAX,
        _ => 0,
    }
}

fn id_fault(id: &str, catalogue: &Catalogue) -> Option<Fault> {
    let numbers = catalogue.column(id).is_some_and(|found| found.is_integer() && found.is_numbered());
    let unique = catalogue.uniques.iter().any(|unique| unique.is_over(&[id]));
    (!numbers || !unique).then(|| Fault {
        problem: format!("needs a key column `{id}` that the database numbers"),
        repair: repair_sql::number_rows(id, catalogue),
    })
}

fn key_faults(table: &Table, catalogue: &Catalogue) -> Vec<Fault> {
    let names: Vec<&str> =
        table.columns[..table.key_columns].iter().map(|column| column.name.as_str()).collect();
    let unique = table.unique.map(|index| [table.columns[index].name.as_str()]);
    let mut faults = Vec::new();
    if !catalogue.uniques.iter().any(|unique| unique.is_over(&names)) {
        let repair = repair_sql::add_unique("millrace_row_key", &names);
        faults.push(Fault { problem: format!("needs a unique key over {}", listed(&names)), repair });
    }
    if let Some(unique) = &unique
        && !catalogue.uniques.iter().any(|existing| existing.is_over(unique))
    {
        let repair = repair_sql::add_unique(&format!("millrace_{}", unique[0]), unique);
        faults.push(Fault { problem: format!("needs a unique key over {}", listed(unique)), repair });
    }
    let harmless = |existing: &UniqueIndex| {
        existing.covers(&names)
            || unique.is_some_and(|unique| existing.covers(&unique))
            || existing.columns.iter().flatten().any(|name| never_collides(table, catalogue, name))
    };
    for other in catalogue.uniques.iter().filter(|existing| !harmless(existing)) {
        faults.push(Fault {
            problem: format!(
                "has another unique key `{}`, by which two rows of the view could collide",
                other.name
            ),
            repair: repair_sql::drop_unique(other),
        });
    }
    faults
}

/// Returns whether two rows of the view never have the same value in a column. This holds for a column that the view
/// does not write and that is NULL by default or numbered.
fn never_collides(table: &Table, catalogue: &Catalogue, name: &str) -> bool {
    let written = table.columns.iter().any(|column| column.name.eq_ignore_ascii_case(name));
    let empty = |found: &ExistingColumn| {
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
    use crate::store::cell::Cell;
    use crate::store::mysql::test_server::{Mariadb, session};
    use crate::store::tables::Column;

    const WORD: ColumnKind = ColumnKind::Text { chars_max: 255 };
    /// A collation of the test server that compares byte for byte.
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

    /// Makes a table, repairs it once, and returns whether it had faults. The SQL has to repair everything.
    async fn repaired(session: &mut Session, url: &str, table: &Table, sql: &str) -> bool {
        let server = Mariadb::shared();
        server.sql(url, &format!("DROP TABLE IF EXISTS t; {sql}"));
        let Some(fault) = session.table_fault(table).await.expect("checked") else { return false };
        let repair = fault.repair.join("; ");
        server.try_sql(url, &repair).unwrap_or_else(|error| panic!("{sql}: {repair}: {error}"));
        assert_eq!(session.table_fault(table).await, Ok(None), "{sql}, after {fault}");
        true
    }

    #[tokio::test]
    async fn all_faults_of_a_table_are_named_and_an_sql_view_is_not_a_table() {
        let (mut session, url) = session().await;
        let sql = "CREATE TABLE t (user_id CHAR(200), revenue FLOAT, must INT NOT NULL, mail VARCHAR(9) UNIQUE DEFAULT '') ENGINE=MyISAM";
        Mariadb::shared().sql(&url, sql);
        let fault = session.table_fault(&revenue()).await.expect("checked").expect("faults");
        assert_eq!((fault.problems.len(), fault.repair.len()), (6, 1), "{fault}");
        Mariadb::shared().sql(&url, "DROP TABLE t; CREATE VIEW t AS SELECT 1 AS user_id, 2 AS revenue");
        assert_eq!(session.table_fault(&revenue()).await, Ok(Some(TableFault::name_taken("t"))));
    }

    #[tokio::test]
    async fn the_tables_of_the_replaced_services_are_accepted() {
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
            assert!(!repaired(&mut session, &url, &table, &sql).await, "{sql}");
            session.drop_tables(std::slice::from_ref(&table)).await.expect("dropped");
            session.create(&table).await.expect("made");
            assert_eq!(session.table_fault(&table).await, Ok(None), "as millrace creates it");
        }
        assert_eq!(
            session.table_fault(&Table::new("none", 1, &[("a", WORD)])).await,
            Err(StoreError::NoTable("none".to_owned()))
        );
    }

    #[tokio::test]
    async fn the_sql_of_a_refusal_repairs_the_table_and_keeps_its_rows() {
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
            assert!(repaired(&mut session, &url, &revenue(), &made).await, "{sql}");
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
    async fn the_sql_of_a_refusal_repairs_a_table_of_numbered_rows() {
        let (mut session, url) = session().await;
        for sql in [
            "CREATE TABLE t (id INT PRIMARY KEY, product_id INT, product_name VARCHAR(255), price DECIMAL(10,2), created_at DATETIME)",
            "CREATE TABLE t (id VARCHAR(9), product_id SMALLINT, product_name VARCHAR(100) NOT NULL, price DOUBLE, created_at DATE NOT NULL DEFAULT '2025-11-01')",
            "CREATE TABLE t (number BIGINT AUTO_INCREMENT PRIMARY KEY, product_id INT, product_name TINYTEXT, price NUMERIC, created_at VARCHAR(30))",
            "CREATE TABLE t (mail VARCHAR(20) NOT NULL PRIMARY KEY, product_id INT, price DECIMAL(9,4) AS (product_id * 2))",
            "CREATE TABLE t (id BIGINT AUTO_INCREMENT, product_id INT, product_name VARCHAR(255) NOT NULL DEFAULT 'it''s', price DECIMAL(10,2), created_at DATETIME, KEY (id)) CHARACTER SET utf8mb4",
        ] {
            let made = format!("{sql}; SET sql_mode = 'NO_ZERO_DATE'; INSERT INTO t SET product_id = 7");
            assert!(repaired(&mut session, &url, &inventory(), &made).await, "{sql}");
            let mut rows = crate::store::numbered_rows::Rows::new(4);
            for _ in 0..3 {
                rows.push(&event::Value::Integer(1));
                rows.push(&event::Value::Absent);
                rows.push(&event::Value::Decimal("1.5".parse().expect("an amount")));
                rows.push(&event::Value::Time(event::Millis(1_762_000_000_999)));
            }
            // A key column `mail` that is not the view's accepts only one row without a value.
            let numbers = session.insert_numbered(&inventory(), &rows).await;
            assert_eq!(numbers.is_err(), sql.contains("mail"), "{sql}: {numbers:?}");
        }
    }
}

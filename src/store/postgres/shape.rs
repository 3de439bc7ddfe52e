//! Checks whether an existing table fits its view: columns, types, key, collation, numbers. A table that would round
//! an amount or merge two users is refused, with the SQL that repairs it.

use super::cells::NumericBounds;
use super::existing_table::{ExistingColumn, UniqueIndex};
use super::{Session, repair_sql, statements};
use crate::store::StoreError;
use crate::store::cell::Cell;
use crate::store::tables::{Column, ColumnKind, Table, quote};

/// The definition of an existing table.
pub struct Shape {
    pub columns: Vec<ExistingColumn>,
    pub uniques: Vec<UniqueIndex>,
    /// Whether the number column uses a sequence.
    pub numbered: bool,
    /// The name of the primary key's constraint.
    pub primary: Option<String>,
}

const RELATION: &str = "SELECT c.relkind::text, (SELECT p.conname FROM pg_catalog.pg_constraint p WHERE p.conrelid = c.oid AND p.contype = 'p') \
     FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass(?)";

const COLUMNS: &str = "SELECT a.attname, b.typname, pg_catalog.format_type(a.atttypid, a.atttypmod), \
     CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END, a.attnotnull OR t.typnotnull, \
     a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL, a.attgenerated <> '', \
     coalesce(l.collisdeterministic, TRUE), \
     EXISTS (SELECT 1 FROM pg_catalog.pg_index i WHERE i.indrelid = a.attrelid AND i.indisprimary AND a.attnum = ANY (i.indkey)), \
     a.attidentity <> '' OR EXISTS (SELECT 1 FROM pg_catalog.pg_attrdef d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum \
     AND pg_catalog.pg_get_expr(d.adbin, d.adrelid) ~ '^(nextval|gen_random_uuid|uuid_generate_v[14])\\(') \
     FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
     JOIN pg_catalog.pg_type b ON b.oid = coalesce(nullif(t.typbasetype, 0), t.oid) \
     LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation \
     WHERE a.attrelid = pg_catalog.to_regclass(?) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

/// Returns one row for each column of each index.
const UNIQUES: &str = "SELECT x.relname, EXISTS (SELECT 1 FROM pg_catalog.pg_constraint p WHERE p.conindid = i.indexrelid), \
     i.indisvalid AND i.indpred IS NULL, i.indimmediate, coalesce(l.collisdeterministic, TRUE), a.attname \
     FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid \
     CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place) \
     LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number AND k.number <> 0 \
     LEFT JOIN pg_catalog.pg_collation l ON l.oid = (i.indcollation::oid[])[k.place - 1] \
     WHERE i.indrelid = pg_catalog.to_regclass(?) AND i.indisunique AND k.place <= i.indnkeyatts ORDER BY x.relname, a.attname";

impl Session {
    pub async fn check(&mut self, table: &Table) -> Result<(), StoreError> {
        let name = [Cell::Text(quote(&table.name))];
        let relation = self.rows(RELATION, &name).await?.into_iter().next();
        let primary = match relation.as_deref() {
            None => return Err(StoreError::NoTable(table.name.clone())),
            Some([Cell::Text(kind), primary]) if ["r", "p"].contains(&kind.as_str()) => match primary {
                Cell::Text(name) => Some(name.clone()),
                _ => None,
            },
            Some(_) => return Err(StoreError::Blocked(format!("`{}` is not a table", table.name))),
        };
        let columns = self.rows(COLUMNS, &name).await?.iter().filter_map(|row| column(row)).collect();
        let uniques = uniques(&self.rows(UNIQUES, &name).await?);
        let numbered = match &table.id {
            None => false,
            Some(id) => {
                let parameters = [Cell::Text(quote(&table.name)), Cell::Text(id.clone())];
                !self.rows(statements::SEQUENCE, &parameters).await?.is_empty()
            }
        };
        match (Shape { columns, uniques, numbered, primary }).fault(table) {
            None => Ok(()),
            Some(fault) => Err(StoreError::Blocked(format!("table `{}` {fault}", table.name))),
        }
    }
}

fn column(row: &[Cell]) -> Option<ExistingColumn> {
    let [Cell::Text(name), Cell::Text(kind), Cell::Text(shown), Cell::Integer(modifier), flags @ ..] = row
    else {
        return None;
    };
    let flag = |at: usize| flags.get(at) == Some(&Cell::Integer(1));
    Some(ExistingColumn {
        name: name.clone(),
        kind: kind.clone(),
        shown: shown.clone(),
        modifier: *modifier as i32,
        not_null: flag(0),
        has_default: flag(1),
        generated: flag(2),
        deterministic: flag(3),
        primary: flag(4),
        numbered: flag(5),
    })
}

fn uniques(rows: &[Vec<Cell>]) -> Vec<UniqueIndex> {
    let mut uniques: Vec<UniqueIndex> = Vec::new();
    for row in rows {
        let [Cell::Text(name), is_constraint, whole, immediate, deterministic, column] = row.as_slice()
        else {
            continue;
        };
        let is_true = |cell: &Cell| *cell == Cell::Integer(1);
        let column = match column {
            Cell::Text(column) => Some(column.clone()),
            _ => None,
        };
        match uniques.last_mut() {
            Some(last) if last.name == *name => {
                last.columns.push(column);
                last.deterministic &= is_true(deterministic);
            }
            _ => uniques.push(UniqueIndex {
                name: name.clone(),
                is_constraint: is_true(is_constraint),
                whole: is_true(whole),
                immediate: is_true(immediate),
                deterministic: is_true(deterministic),
                columns: vec![column],
            }),
        }
    }
    uniques
}

impl Shape {
    pub fn column(&self, name: &str) -> Option<&ExistingColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Returns the first reason why the table does not fit its view, with the SQL that repairs it.
    fn fault(&self, table: &Table) -> Option<String> {
        let mut columns = table.columns.iter().enumerate();
        let fault = columns.find_map(|(index, column)| self.column_fault(table, index, column));
        fault.or_else(|| self.not_null_fault(table)).or_else(|| match &table.id {
            Some(id) => self.number_fault(table, id),
            None => self.key_fault(table),
        })
    }

    fn column_fault(&self, table: &Table, index: usize, column: &Column) -> Option<String> {
        let in_key = index < table.key_columns;
        let Some(existing) = self.column(&column.name) else {
            let repair = repair_sql::add_column(table, column, in_key);
            return Some(format!("has no column `{}`; to fix it, run: {repair}", column.name));
        };
        let named = format!("has a column `{}`", column.name);
        if existing.generated {
            let repair = repair_sql::drop_expression(table, existing);
            return Some(format!(
                "{named} that the database computes, so millrace cannot write it; to fix it, run: {repair}"
            ));
        }
        // Outside the key, such tables contain only millrace's own words. Too long a text is an error, never
        // truncated.
        let keyed = in_key || table.unique == Some(index);
        let is_word = matches!(column.kind, ColumnKind::Text { .. }) && !keyed && table.id.is_none();
        let fits = existing.fits(column.kind, table.id.is_none()) || (is_word && existing.kind == "varchar");
        if !fits {
            let repair = repair_sql::change_type(table, existing, column, in_key);
            return Some(format!(
                "{named} of type {}, which does not store every value exactly; to fix it, run: {repair}",
                existing.shown
            ));
        }
        if in_key && !existing.deterministic {
            let repair = repair_sql::change_type(table, existing, column, in_key);
            return Some(format!("{named} that does not compare byte for byte; to fix it, run: {repair}"));
        }
        (column.null && existing.not_null).then(|| {
            let repair = repair_sql::drop_not_null(table, existing, self.primary_of(existing));
            format!(
                "{named} that is NOT NULL, but not every event has a value for it; to fix it, run: {repair}"
            )
        })
    }

    fn not_null_fault(&self, table: &Table) -> Option<String> {
        let is_declared = |name: &str| {
            table.columns.iter().map(|column| &column.name).chain(&table.id).any(|own| own == name)
        };
        let required = |column: &&ExistingColumn| column.not_null && !column.has_default;
        let other = self.columns.iter().filter(required).find(|column| !is_declared(&column.name))?;
        let repair = repair_sql::drop_not_null(table, other, self.primary_of(other));
        Some(format!(
            "has a column `{}` that is NOT NULL and has no default; to fix it, run: {repair}",
            other.name
        ))
    }

    /// Returns the primary key's constraint if the column is in it.
    fn primary_of(&self, column: &ExistingColumn) -> Option<&str> {
        self.primary.as_deref().filter(|_| column.primary)
    }

    fn number_fault(&self, table: &Table, id: &str) -> Option<String> {
        let Some(existing) = self.column(id) else {
            let repair = repair_sql::add_number_column(table, id);
            return Some(format!("has no column `{id}` to number its rows; to fix it, run: {repair}"));
        };
        if !["int4", "int8"].contains(&existing.kind.as_str()) {
            let repair = repair_sql::replace_number_column(table, id, self.primary_of(existing));
            return Some(format!(
                "has a column `{id}` of type {}, which cannot number rows; to fix it, run: {repair}",
                existing.shown
            ));
        }
        if !self.numbered {
            let repair = repair_sql::number_rows(table, id, existing);
            return Some(format!(
                "has a column `{id}` that the database does not number; to fix it, run: {repair}"
            ));
        }
        let only_id = [Some(id.to_owned())];
        let is_unique = self.uniques.iter().any(|unique| unique.whole && unique.columns == only_id);
        (!is_unique).then(|| {
            let repair = repair_sql::make_unique(table, &[id]);
            format!("has a column `{id}` that is not unique; to fix it, run: {repair}")
        })
    }

    fn key_fault(&self, table: &Table) -> Option<String> {
        let mut wanted: Vec<Option<String>> =
            table.columns[..table.key_columns].iter().map(|column| Some(column.name.clone())).collect();
        wanted.sort();
        let mut keys = self.uniques.iter().filter(|unique| {
            let mut columns = unique.columns.clone();
            columns.sort();
            columns == wanted
        });
        // Even next to a correct key, one for which `A` equals `a` would refuse the second of them.
        if let Some(merging) = keys.clone().find(|key| !key.deterministic) {
            let repair = repair_sql::drop_unique(table, merging);
            return Some(format!(
                "needs a unique key that compares byte for byte, but has one that does not; to fix it, run: {repair}"
            ));
        }
        if let Some(deferrable) = keys.clone().find(|key| !key.immediate) {
            let repair = repair_sql::drop_unique(table, deferrable);
            return Some(format!(
                "has a deferrable unique key, which is checked too late; to fix it, run: {repair}"
            ));
        }
        let names: Vec<&str> =
            table.columns[..table.key_columns].iter().map(|column| column.name.as_str()).collect();
        if !keys.any(|key| key.whole) {
            return Some(needs_unique(table, &names));
        }
        let own = table.unique.map(|index| [table.columns[index].name.as_str()]);
        if let Some(own) = own.filter(|own| !self.uniques.iter().any(|unique| unique.is_over(own))) {
            return Some(needs_unique(table, &own));
        }
        let harmless = |unique: &&UniqueIndex| {
            unique.covers(&names)
                || own.is_some_and(|own| unique.covers(&own))
                || unique.columns.iter().flatten().any(|name| self.never_collides(table, name))
        };
        let other = self.uniques.iter().find(|unique| !harmless(unique))?;
        let repair = repair_sql::drop_unique(table, other);
        Some(format!(
            "has another unique key `{}`, by which two rows of the view could collide; to fix it, run: {repair}",
            other.name
        ))
    }

    /// Returns whether two rows of the view never have the same value in a column. This holds for a column that the
    /// view does not write and that is NULL by default or numbered.
    fn never_collides(&self, table: &Table, name: &str) -> bool {
        let written = table.columns.iter().any(|column| column.name == name);
        let empty = |column: &ExistingColumn| !column.not_null && !column.has_default && !column.generated;
        !written && self.column(name).is_some_and(|column| column.numbered || empty(column))
    }
}

fn needs_unique(table: &Table, names: &[&str]) -> String {
    let repair = repair_sql::make_unique(table, names);
    format!("needs a unique key over ({}); to fix it, run: {repair}", names.join(", "))
}

impl UniqueIndex {
    /// Returns whether the index contains all of these columns, and perhaps others.
    fn covers(&self, names: &[&str]) -> bool {
        names.iter().all(|name| self.columns.iter().flatten().any(|own| own == name))
    }

    /// Returns whether the index is over exactly these columns, for every row, and is checked by each statement.
    fn is_over(&self, names: &[&str]) -> bool {
        self.columns.len() == names.len()
            && self.covers(names)
            && self.whole
            && self.immediate
            && self.deterministic
    }
}

/// The digits of DECIMAL(38,4), to which balances can grow.
const BALANCE: NumericBounds = NumericBounds { digits: 34, places: 4 };
/// The digits needed with one row per event: nothing is summed, and a value beyond its column is refused on its own.
const PRICE: NumericBounds = NumericBounds { digits: 8, places: 2 };

impl ExistingColumn {
    /// Returns whether the column stores every value of a declared kind exactly. `is_summed`: amounts are added up in
    /// it.
    fn fits(&self, kind: ColumnKind, is_summed: bool) -> bool {
        let chars_max = (self.modifier >= 4).then_some(self.modifier - 4);
        let any_text = self.kind == "text" || (self.kind == "varchar" && chars_max.is_none());
        let is_one = |kinds: &[&str]| kinds.contains(&self.kind.as_str());
        match kind {
            ColumnKind::Text { chars_max: wanted } => {
                any_text || (is_one(&["varchar"]) && chars_max.is_some_and(|max| max as u32 >= wanted))
            }
            ColumnKind::LongText => any_text,
            ColumnKind::Json => any_text || is_one(&["json", "jsonb"]),
            ColumnKind::Integer => is_one(&["int4", "int8"]),
            ColumnKind::Decimal => {
                let wanted = if is_summed { BALANCE } else { PRICE };
                let bounds = NumericBounds::of(self.modifier);
                is_one(&["numeric"])
                    && bounds.is_none_or(|has| has.digits >= wanted.digits && has.places >= wanted.places)
            }
            ColumnKind::Time => is_one(&["timestamp", "timestamptz"]),
            ColumnKind::Boolean => is_one(&["bool", "int2", "int4", "int8"]),
            ColumnKind::Bytes { .. } | ColumnKind::LongBytes => is_one(&["bytea"]),
        }
    }

    pub fn is_text(&self) -> bool {
        ["text", "varchar", "bpchar", "citext"].contains(&self.kind.as_str())
    }

    pub fn is_number(&self) -> bool {
        ["int2", "int4", "int8", "numeric", "float4", "float8"].contains(&self.kind.as_str())
    }

    pub fn is_boolean(&self) -> bool {
        self.kind == "bool"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::postgres::test_server;

    fn ledger() -> Table {
        let columns = [("who", ColumnKind::Text { chars_max: 255 }), ("sum", ColumnKind::Decimal)];
        Table::new("t", 1, &columns)
    }

    /// Runs the SQL of each refusal until the table is accepted. Returns how many refusals there were.
    async fn repaired(session: &mut Session, table: &Table, sql: &str) -> usize {
        let mut refusals = 0;
        while let Err(refusal) = session.check(table).await {
            let refusal = refusal.to_string();
            refusals += 1;
            assert!(refusals < 5, "{sql}: {refusal}");
            let (_, repair) = refusal.split_once("; to fix it, run: ").expect("SQL that repairs it");
            session.batch(repair).await.unwrap_or_else(|error| panic!("{sql}: {repair}: {error}"));
        }
        refusals
    }

    #[tokio::test]
    async fn the_sql_of_a_refusal_repairs_the_table_and_keeps_its_rows() {
        for (expected, sql) in [
            (0, "CREATE TABLE t (who VARCHAR(255) PRIMARY KEY, sum NUMERIC NOT NULL)"),
            (0, "CREATE TABLE t (sum DECIMAL(38,4), who TEXT UNIQUE, more TEXT NOT NULL DEFAULT '')"),
            (0, "CREATE TABLE t (id SERIAL PRIMARY KEY, who VARCHAR UNIQUE, sum NUMERIC)"),
            (
                0,
                "CREATE DOMAIN money_of_ours AS NUMERIC(40,4); CREATE TABLE t (who TEXT PRIMARY KEY, sum money_of_ours)",
            ),
            (1, "CREATE TABLE t (who VARCHAR(50) PRIMARY KEY, sum NUMERIC)"),
            (1, "CREATE TABLE t (who CHAR(255) PRIMARY KEY, sum NUMERIC)"),
            (1, "CREATE TABLE t (who TEXT PRIMARY KEY, sum INTEGER DEFAULT 0)"),
            (1, "CREATE TABLE t (who TEXT PRIMARY KEY, sum DECIMAL(10,2))"),
            (1, "CREATE TABLE t (who TEXT PRIMARY KEY, sum DECIMAL(37,4))"),
            (1, "CREATE TABLE t (who TEXT PRIMARY KEY, sum NUMERIC(40))"),
            (1, "CREATE TABLE t (who TEXT PRIMARY KEY, sum DOUBLE PRECISION DEFAULT 0)"),
            (1, "CREATE TABLE t (who TEXT PRIMARY KEY, sum MONEY DEFAULT 0)"),
            (1, "CREATE TABLE t (who TEXT PRIMARY KEY, sum TEXT DEFAULT '0')"),
            (1, "CREATE TABLE t (who TEXT PRIMARY KEY)"),
            (1, "CREATE TABLE t (who TEXT, sum NUMERIC)"),
            (2, "CREATE TABLE t (who TEXT UNIQUE DEFERRABLE, sum NUMERIC)"),
            (1, "CREATE TABLE t (who TEXT, sum NUMERIC); CREATE UNIQUE INDEX ON t (who) WHERE sum > 0"),
            (1, "CREATE TABLE t (who TEXT, sum NUMERIC); CREATE UNIQUE INDEX ON t (who, sum)"),
            (1, "CREATE TABLE t (who TEXT PRIMARY KEY, sum NUMERIC GENERATED ALWAYS AS (5) STORED)"),
            (1, "CREATE TABLE t (who TEXT PRIMARY KEY, sum NUMERIC, more INT NOT NULL)"),
            (
                0,
                "CREATE TABLE t (who TEXT PRIMARY KEY, sum NUMERIC, UNIQUE (who, sum), id UUID UNIQUE DEFAULT gen_random_uuid())",
            ),
            (0, "CREATE TABLE t (who TEXT PRIMARY KEY, sum NUMERIC, mail TEXT UNIQUE)"),
            (1, "CREATE TABLE t (who TEXT PRIMARY KEY, sum NUMERIC UNIQUE)"),
            (1, "CREATE TABLE t (who TEXT PRIMARY KEY, sum NUMERIC, mail TEXT UNIQUE DEFAULT '')"),
            (1, "CREATE TABLE t (who TEXT PRIMARY KEY, sum NUMERIC); CREATE UNIQUE INDEX ON t (lower(who))"),
            (2, "CREATE TABLE t (who TEXT, sum NUMERIC, more INT PRIMARY KEY)"),
            (
                4,
                "CREATE TABLE t (who BIGINT, sum INT, more INT PRIMARY KEY); CREATE UNIQUE INDEX ON t (who, sum)",
            ),
            (
                1,
                "CREATE COLLATION no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false); CREATE TABLE t (who TEXT COLLATE no_case PRIMARY KEY, sum NUMERIC)",
            ),
            (
                1,
                "CREATE COLLATION no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false); CREATE TABLE t (who TEXT PRIMARY KEY, sum NUMERIC); CREATE UNIQUE INDEX ON t (who COLLATE no_case)",
            ),
        ] {
            let mut session = test_server::shared().session().await;
            session.batch(sql).await.expect(sql);
            let more = if sql.contains("more INT") { ", more" } else { "" };
            let sum = if sql.contains("sum") && !sql.contains("STORED") { ", sum" } else { "" };
            let values = format!("'7'{}{}", sum.replace(", sum", ", '5'"), more.replace(", more", ", 1"));
            session.batch(&format!("INSERT INTO t (who{sum}{more}) VALUES ({values})")).await.expect(sql);
            assert_eq!(repaired(&mut session, &ledger(), sql).await, expected, "{sql}");
            let cell = |text: &str| Cell::Text(text.to_owned());
            let one = || Cell::Decimal("0.5".parse().expect("a number"));
            let rows = [cell("7"), one(), cell("A"), one(), cell("a"), one(), cell("a "), one()];
            session.add(&ledger(), &rows).await.expect(sql);
            let shown = session.rows("SELECT sum FROM t ORDER BY who COLLATE \"C\"", &[]).await.expect(sql);
            let first = if sum.is_empty() && !sql.contains("STORED") { "0.5" } else { "5.5" };
            assert_eq!(shown[0], [Cell::Decimal(first.parse().expect("a number"))], "{sql}");
            assert_eq!(shown.len(), 4, "{sql}");
        }
    }

    fn numbered() -> Table {
        let column = |name: &str, kind, null| Column { name: name.to_owned(), kind, null };
        let columns = vec![
            column("what", ColumnKind::Text { chars_max: 9 }, true),
            column("size", ColumnKind::Integer, false),
            column("at", ColumnKind::Time, false),
        ];
        Table::numbered("t", "id", columns)
    }

    #[tokio::test]
    async fn a_table_of_numbered_rows_is_accepted_or_repaired_by_the_sql_of_the_refusal() {
        for (expected, sql) in [
            (0, "CREATE TABLE t (id SERIAL PRIMARY KEY, what VARCHAR(9), size INT, at TIMESTAMP)"),
            (
                0,
                "CREATE TABLE t (at TIMESTAMPTZ(0) NOT NULL, size BIGINT NOT NULL, what TEXT, id INT GENERATED ALWAYS AS IDENTITY UNIQUE, more TEXT NOT NULL DEFAULT 'x')",
            ),
            (
                0,
                "CREATE SEQUENCE s START 9; CREATE TABLE t (id INT PRIMARY KEY DEFAULT nextval('s'), what TEXT, size INT, at TIMESTAMP)",
            ),
            (1, "CREATE TABLE t (id SERIAL PRIMARY KEY, what VARCHAR(8), size INT, at TIMESTAMP)"),
            (1, "CREATE TABLE t (id SERIAL PRIMARY KEY, what TEXT NOT NULL, size INT, at TIMESTAMP)"),
            (1, "CREATE TABLE t (id SERIAL PRIMARY KEY, what TEXT, size INT, at DATE)"),
            (1, "CREATE TABLE t (id SERIAL PRIMARY KEY, what TEXT, size SMALLINT, at TIMESTAMP)"),
            (1, "CREATE TABLE t (id SERIAL, what TEXT, size INT, at TIMESTAMP)"),
            (1, "CREATE TABLE t (id BIGINT PRIMARY KEY, what TEXT, size INT, at TIMESTAMP)"),
            (1, "CREATE TABLE t (id BIGINT PRIMARY KEY DEFAULT 4, what TEXT, size INT, at TIMESTAMP)"),
            (
                1,
                "CREATE TABLE t (id UUID PRIMARY KEY DEFAULT gen_random_uuid(), what TEXT, size INT, at TIMESTAMP)",
            ),
            (1, "CREATE TABLE t (what TEXT, size INT, at TIMESTAMP)"),
            (3, "CREATE TABLE t (size DOUBLE PRECISION NOT NULL, what TEXT NOT NULL, at TIMESTAMP)"),
        ] {
            let mut session = test_server::shared().session().await;
            session.batch(sql).await.expect(sql);
            let insert = "INSERT INTO t (what, size, at) VALUES ('x', 5, '2025-11-01 10:00:00Z')";
            if !sql.contains("BIGINT PRIMARY KEY, ") {
                session.batch(insert).await.expect(sql);
            }
            assert_eq!(repaired(&mut session, &numbered(), sql).await, expected, "{sql}");
            let mut rows = crate::store::numbered_rows::Rows::new(3);
            for _ in 0..2 {
                rows.push(&event::Value::Absent);
                rows.push(&event::Value::Integer(5));
                rows.push(&event::Value::Time(event::Millis(0)));
            }
            let numbers = session.insert_numbered(&numbered(), &rows).await.expect(sql);
            assert!(numbers[0] > 0 && numbers[1] == numbers[0] + 1, "{sql}: {numbers:?}");
        }
    }

    #[tokio::test]
    async fn created_tables_are_accepted_and_a_replacement_takes_over_the_names_of_its_indexes() {
        use crate::store::millrace_tables::own_tables;

        use crate::store::tables::TopK;
        let mut session = test_server::shared().session().await;
        for table in own_tables().iter().chain([&ledger()]) {
            session.create(table).await.expect("a table");
            session.create(table).await.expect("is there already");
            assert_eq!(session.check(table).await, Ok(()), "{}", table.name);
        }
        let ranking = || TopK { top_table: String::new(), floor_table: String::new(), limit_max: 1 };
        let columns = [
            ("grp", ColumnKind::Text { chars_max: 9 }),
            ("value", ColumnKind::LongText),
            ("n", ColumnKind::Integer),
        ];
        let counts = |name: &str| Table { ranking: Some(ranking()), ..Table::new(name, 2, &columns) };
        session.create(&counts("counts")).await.expect("a table");
        for round in 1..3 {
            session.create(&counts("fresh")).await.expect("a table");
            let row = [Cell::Text("g".to_owned()), Cell::Text("v".to_owned()), Cell::Integer(round)];
            session.add(&counts("fresh"), &row).await.expect("a row");
            session.replace_tables(&[counts("fresh")], &[counts("counts")]).await.expect("replaces it");
            assert_eq!(session.rows("SELECT n FROM counts", &[]).await, Ok(vec![vec![Cell::Integer(round)]]));
            assert_eq!(session.exists("fresh").await, Ok(false));
            let names = "SELECT indexname FROM pg_indexes WHERE tablename = 'counts' ORDER BY 1";
            let name = |name: &str| vec![Cell::Text(name.to_owned())];
            assert_eq!(session.rows(names, &[]).await, Ok(vec![name("counts_key"), name("counts_ranking")]));
        }
        session.drop_tables(&[counts("counts"), counts("never there")]).await.expect("goes");
        assert_eq!(session.exists("counts").await, Ok(false));
    }

    #[tokio::test]
    async fn a_view_is_not_accepted_as_a_table() {
        let mut session = test_server::shared().session().await;
        session.batch("CREATE VIEW t AS SELECT 'a' AS who, 1 AS sum").await.expect("a view");
        assert_eq!(session.check(&ledger()).await, Err(StoreError::Blocked("`t` is not a table".to_owned())));
        session.batch("DROP VIEW t").await.expect("goes");
        assert_eq!(session.check(&ledger()).await, Err(StoreError::NoTable("t".to_owned())));
    }
}

//! Checks whether an existing table fits its view: columns, types, key, collation, numbers. A table that would round
//! an amount or merge two users is refused, with the SQL that repairs all of its faults.

use super::cells::NumericBounds;
use super::existing_table::{ExistingColumn, UniqueIndex};
use super::repair_sql::Repair;
use super::{Session, statements};
use crate::store::StoreError;
use crate::store::cell::Cell;
use crate::store::table_fault::TableFault;
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

/// Returns one row for each column of each index. An index with the collation of its column follows that column.
const UNIQUES: &str = "SELECT x.relname, EXISTS (SELECT 1 FROM pg_catalog.pg_constraint p WHERE p.conindid = i.indexrelid), \
     i.indisvalid AND i.indpred IS NULL, i.indimmediate, coalesce(l.collisdeterministic OR l.oid = a.attcollation, TRUE), a.attname \
     FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid \
     CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place) \
     LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number AND k.number <> 0 \
     LEFT JOIN pg_catalog.pg_collation l ON l.oid = (i.indcollation::oid[])[k.place - 1] \
     WHERE i.indrelid = pg_catalog.to_regclass(?) AND i.indisunique AND k.place <= i.indnkeyatts ORDER BY x.relname, a.attname";

impl Session {
    /// Returns everything because of which the view cannot use the existing table.
    pub async fn table_fault(&mut self, table: &Table) -> Result<Option<TableFault>, StoreError> {
        let name = [Cell::Text(quote(&table.name))];
        let relation = self.rows(RELATION, &name).await?.into_iter().next();
        let primary = match relation.as_deref() {
            None => return Err(StoreError::NoTable(table.name.clone())),
            Some([Cell::Text(kind), primary]) if ["r", "p"].contains(&kind.as_str()) => match primary {
                Cell::Text(name) => Some(name.clone()),
                _ => None,
            },
            Some(_) => return Ok(Some(TableFault::name_taken(&table.name))),
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
        Ok(Shape { columns, uniques, numbered, primary }.fault(table))
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

    fn fault(&self, table: &Table) -> Option<TableFault> {
        let mut faults = Faults { shape: self, table, problems: Vec::new(), repair: Repair::default() };
        for (index, column) in table.columns.iter().enumerate() {
            faults.check_column(index, column);
        }
        faults.check_not_null();
        match &table.id {
            Some(id) => faults.check_number(id),
            None => faults.check_key(),
        }
        let Faults { problems, repair, .. } = faults;
        (!problems.is_empty()).then(|| TableFault {
            table: table.name.clone(),
            problems,
            repair: repair.statements(table),
        })
    }

    /// Returns the index of the primary key if the column is in it.
    fn primary_of(&self, column: &ExistingColumn) -> Option<&UniqueIndex> {
        let primary = self.primary.as_deref().filter(|_| column.primary)?;
        self.uniques.iter().find(|unique| unique.name == primary)
    }

    /// Returns whether two rows of the view never have the same value in a column. This holds for a column that the
    /// view does not write and that is NULL by default or numbered.
    fn never_collides(&self, table: &Table, name: &str) -> bool {
        let written = table.columns.iter().any(|column| column.name == name);
        let empty = |column: &ExistingColumn| !column.not_null && !column.has_default && !column.generated;
        !written && self.column(name).is_some_and(|column| column.numbered || empty(column))
    }
}

/// The faults that were found in a table, and what repairs them.
struct Faults<'s> {
    shape: &'s Shape,
    table: &'s Table,
    problems: Vec<String>,
    repair: Repair,
}

impl Faults<'_> {
    fn note(&mut self, problem: String) {
        self.problems.push(problem);
    }

    fn check_column(&mut self, index: usize, column: &Column) {
        let (shape, table) = (self.shape, self.table);
        let keyed = index < table.key_columns || table.unique == Some(index);
        let Some(existing) = shape.column(&column.name) else {
            self.note(format!("has no column `{}`", column.name));
            self.repair.add_column(column, keyed);
            return;
        };
        let named = format!("has a column `{}`", column.name);
        if existing.generated {
            self.note(format!("{named} that the database computes, so millrace cannot write it"));
            self.repair.drop_expression(existing);
        }
        // Outside the key, such tables contain only millrace's own words. Too long a text is an error, never
        // truncated.
        let is_word = matches!(column.kind, ColumnKind::Text { .. }) && !keyed && table.id.is_none();
        let fits = existing.fits(column.kind, table.id.is_none()) || (is_word && existing.kind == "varchar");
        if !fits {
            self.note(format!(
                "{named} of type {}, which does not store every value exactly",
                existing.shown
            ));
            self.repair.change_type(existing, column, keyed);
        } else if keyed && !existing.deterministic {
            self.note(format!("{named} that does not compare byte for byte"));
            self.repair.change_type(existing, column, keyed);
        }
        if column.null && existing.not_null {
            self.note(format!("{named} that is NOT NULL, but not every event has a value for it"));
            self.repair.drop_not_null(existing, shape.primary_of(existing));
        }
    }

    fn check_not_null(&mut self) {
        let (shape, table) = (self.shape, self.table);
        let is_declared = |name: &str| {
            table.columns.iter().map(|column| &column.name).chain(&table.id).any(|own| own == name)
        };
        for other in shape.columns.iter().filter(|column| column.not_null && !column.has_default) {
            if !is_declared(&other.name) {
                self.note(format!("has a column `{}` that is NOT NULL and has no default", other.name));
                self.repair.drop_not_null(other, shape.primary_of(other));
            }
        }
    }

    fn check_number(&mut self, id: &str) {
        let shape = self.shape;
        let Some(existing) = shape.column(id) else {
            self.note(format!("has no column `{id}` to number its rows"));
            self.repair.add_number_column(id);
            return;
        };
        if !["int4", "int8"].contains(&existing.kind.as_str()) {
            self.note(format!("has a column `{id}` of type {}, which cannot number rows", existing.shown));
            self.repair.replace_number_column(self.table, existing, shape.primary_of(existing));
            return;
        }
        if !shape.numbered {
            self.note(format!("has a column `{id}` that the database does not number"));
            self.repair.number_rows(self.table, existing);
        }
        let only_id = [Some(id.to_owned())];
        if !self.remaining().any(|unique| unique.whole && unique.columns == only_id) {
            self.note(format!("has a column `{id}` that is not unique"));
            self.repair.make_unique(self.table, &[id]);
        }
    }

    /// Returns the unique indexes that the repair does not drop.
    fn remaining(&self) -> impl Iterator<Item = &UniqueIndex> {
        self.shape.uniques.iter().filter(|unique| !self.repair.drops(unique))
    }

    fn check_key(&mut self) {
        let (shape, table) = (self.shape, self.table);
        let names: Vec<&str> =
            table.columns[..table.key_columns].iter().map(|column| column.name.as_str()).collect();
        let own = table.unique.map(|index| [table.columns[index].name.as_str()]);
        let is_key = |unique: &UniqueIndex| unique.columns.len() == names.len() && unique.covers(&names);
        for key in shape.uniques.iter().filter(|unique| is_key(unique)) {
            // Even next to a correct key, one for which `A` equals `a` would refuse the second of them.
            if !key.deterministic {
                self.note(
                    "needs a unique key that compares byte for byte, but has one that does not".to_owned(),
                );
                self.repair.drop_unique(key);
            } else if !key.immediate {
                self.note("has a deferrable unique key, which is checked too late".to_owned());
                self.repair.drop_unique(key);
            }
        }
        let harmless = |unique: &&UniqueIndex| {
            unique.covers(&names)
                || own.is_some_and(|own| unique.covers(&own))
                || unique.columns.iter().flatten().any(|name| shape.never_collides(table, name))
        };
        for other in shape.uniques.iter().filter(|unique| !harmless(unique)) {
            // The repair of a column can drop it already.
            if !self.repair.drops(other) {
                let name = &other.name;
                self.note(format!(
                    "has another unique key `{name}`, by which two rows of the view could collide"
                ));
                self.repair.drop_unique(other);
            }
        }
        if !self.remaining().any(|unique| is_key(unique) && unique.whole) {
            self.note(format!("needs a unique key over ({})", names.join(", ")));
            self.repair.make_unique(table, &names);
        }
        if let Some(own) = own
            && !self.remaining().any(|unique| unique.is_over(&own))
        {
            self.note(format!("needs a unique key over ({})", own[0]));
            self.repair.make_unique(table, &own);
        }
    }
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

    /// Repairs a table once, and returns whether it had faults. The SQL of one fault has to repair everything.
    async fn repaired(session: &mut Session, table: &Table, sql: &str) -> bool {
        let Some(fault) = session.table_fault(table).await.expect("checked") else { return false };
        for statement in &fault.repair {
            session.batch(statement).await.unwrap_or_else(|error| panic!("{sql}: {statement}: {error}"));
        }
        assert_eq!(session.table_fault(table).await, Ok(None), "{sql}, after {fault}");
        true
    }

    #[tokio::test]
    async fn a_table_with_many_faults_is_repaired_by_one_run_of_the_sql() {
        let mut session = test_server::shared().session().await;
        let word = ColumnKind::Text { chars_max: 255 };
        let columns = [
            ("who", word),
            ("part", word),
            ("sum", ColumnKind::Decimal),
            ("fee", ColumnKind::Decimal),
            ("note?", word),
            ("at", ColumnKind::Time),
            ("missing", ColumnKind::Integer),
            ("event", word),
        ];
        let table = Table { unique: Some(7), ..Table::new("t", 2, &columns) };
        let sql = "CREATE COLLATION no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
            CREATE TABLE t (who VARCHAR(20) COLLATE no_case, part BIGINT, sum INT DEFAULT 0, fee TEXT GENERATED ALWAYS AS ('5') STORED,
                note VARCHAR(9) NOT NULL, at DATE, must INT NOT NULL, event TEXT COLLATE no_case, id INT PRIMARY KEY,
                UNIQUE (who, part) DEFERRABLE, UNIQUE (sum));
            CREATE UNIQUE INDEX merging ON t (who COLLATE no_case, part);
            CREATE UNIQUE INDEX other ON t (at) WHERE sum > 0;
            INSERT INTO t (who, part, sum, note, at, must, event, id) VALUES ('u', 7, 3, 'n', '2025-11-01', 1, 'e', 9)";
        session.batch(sql).await.expect(sql);
        let fault = session.table_fault(&table).await.expect("checked").expect("faults");
        assert!(fault.problems.len() >= 13, "{fault}");
        assert_eq!(fault.repair.iter().filter(|sql| sql.starts_with("ALTER TABLE")).count(), 2, "{fault}");
        assert!(repaired(&mut session, &table, sql).await);
        let shown = "SELECT who || part || sum || fee || note || at || must || event || id FROM t";
        let kept = session.rows(shown, &[]).await.expect("a row");
        assert_eq!(kept, [[Cell::Text("u735n2025-11-01 00:00:00+001e9".to_owned())]]);
    }

    #[tokio::test]
    async fn a_number_column_of_the_wrong_type_is_replaced_together_with_other_repairs() {
        let mut session = test_server::shared().session().await;
        let sql = "CREATE TABLE t (id UUID DEFAULT gen_random_uuid(), size REAL NOT NULL, what TEXT NOT NULL, at DATE, must INT NOT NULL, PRIMARY KEY (id, must));
            INSERT INTO t (size, what, at, must) VALUES (5, 'x', '2025-11-01', 1)";
        session.batch(sql).await.expect(sql);
        assert!(repaired(&mut session, &numbered(), sql).await);
        let kept = session.rows("SELECT id, size FROM t WHERE id_before IS NOT NULL", &[]).await;
        assert_eq!(kept, Ok(vec![vec![Cell::Integer(1), Cell::Integer(5)]]));
    }

    #[tokio::test]
    async fn the_sql_of_a_refusal_repairs_the_table_and_keeps_its_rows() {
        for (expected, sql) in [
            (false, "CREATE TABLE t (who VARCHAR(255) PRIMARY KEY, sum NUMERIC NOT NULL)"),
            (false, "CREATE TABLE t (sum DECIMAL(38,4), who TEXT UNIQUE, more TEXT NOT NULL DEFAULT '')"),
            (false, "CREATE TABLE t (id SERIAL PRIMARY KEY, who VARCHAR UNIQUE, sum NUMERIC)"),
            (
                false,
                "CREATE DOMAIN money_of_ours AS NUMERIC(40,4); CREATE TABLE t (who TEXT PRIMARY KEY, sum money_of_ours)",
            ),
            (true, "CREATE TABLE t (who VARCHAR(50) PRIMARY KEY, sum NUMERIC)"),
            (true, "CREATE TABLE t (who CHAR(255) PRIMARY KEY, sum NUMERIC)"),
            (true, "CREATE TABLE t (who TEXT PRIMARY KEY, sum INTEGER DEFAULT 0)"),
            (true, "CREATE TABLE t (who TEXT PRIMARY KEY, sum DECIMAL(10,2))"),
            (true, "CREATE TABLE t (who TEXT PRIMARY KEY, sum DECIMAL(37,4))"),
            (true, "CREATE TABLE t (who TEXT PRIMARY KEY, sum NUMERIC(40))"),
            (true, "CREATE TABLE t (who TEXT PRIMARY KEY, sum DOUBLE PRECISION DEFAULT 0)"),
            (true, "CREATE TABLE t (who TEXT PRIMARY KEY, sum MONEY DEFAULT 0)"),
            (true, "CREATE TABLE t (who TEXT PRIMARY KEY, sum TEXT DEFAULT '0')"),
            (true, "CREATE TABLE t (who TEXT PRIMARY KEY)"),
            (true, "CREATE TABLE t (who TEXT, sum NUMERIC)"),
            (true, "CREATE TABLE t (who TEXT UNIQUE DEFERRABLE, sum NUMERIC)"),
            (true, "CREATE TABLE t (who TEXT, sum NUMERIC); CREATE UNIQUE INDEX ON t (who) WHERE sum > 0"),
            (true, "CREATE TABLE t (who TEXT, sum NUMERIC); CREATE UNIQUE INDEX ON t (who, sum)"),
            (true, "CREATE TABLE t (who TEXT PRIMARY KEY, sum NUMERIC GENERATED ALWAYS AS (5) STORED)"),
            (true, "CREATE TABLE t (who TEXT PRIMARY KEY, sum NUMERIC, more INT NOT NULL)"),
            (
                false,
                "CREATE TABLE t (who TEXT PRIMARY KEY, sum NUMERIC, UNIQUE (who, sum), id UUID UNIQUE DEFAULT gen_random_uuid())",
            ),
            (false, "CREATE TABLE t (who TEXT PRIMARY KEY, sum NUMERIC, mail TEXT UNIQUE)"),
            (true, "CREATE TABLE t (who TEXT PRIMARY KEY, sum NUMERIC UNIQUE)"),
            (true, "CREATE TABLE t (who TEXT PRIMARY KEY, sum NUMERIC, mail TEXT UNIQUE DEFAULT '')"),
            (
                true,
                "CREATE TABLE t (who TEXT PRIMARY KEY, sum NUMERIC); CREATE UNIQUE INDEX ON t (lower(who))",
            ),
            (true, "CREATE TABLE t (who TEXT, sum NUMERIC, more INT PRIMARY KEY)"),
            (
                true,
                "CREATE TABLE t (who BIGINT, sum INT, more INT PRIMARY KEY); CREATE UNIQUE INDEX ON t (who, sum)",
            ),
            (
                true,
                "CREATE COLLATION no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false); CREATE TABLE t (who TEXT COLLATE no_case PRIMARY KEY, sum NUMERIC)",
            ),
            (
                true,
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
            (false, "CREATE TABLE t (id SERIAL PRIMARY KEY, what VARCHAR(9), size INT, at TIMESTAMP)"),
            (
                false,
                "CREATE TABLE t (at TIMESTAMPTZ(0) NOT NULL, size BIGINT NOT NULL, what TEXT, id INT GENERATED ALWAYS AS IDENTITY UNIQUE, more TEXT NOT NULL DEFAULT 'x')",
            ),
            (
                false,
                "CREATE SEQUENCE s START 9; CREATE TABLE t (id INT PRIMARY KEY DEFAULT nextval('s'), what TEXT, size INT, at TIMESTAMP)",
            ),
            (true, "CREATE TABLE t (id SERIAL PRIMARY KEY, what VARCHAR(8), size INT, at TIMESTAMP)"),
            (true, "CREATE TABLE t (id SERIAL PRIMARY KEY, what TEXT NOT NULL, size INT, at TIMESTAMP)"),
            (true, "CREATE TABLE t (id SERIAL PRIMARY KEY, what TEXT, size INT, at DATE)"),
            (true, "CREATE TABLE t (id SERIAL PRIMARY KEY, what TEXT, size SMALLINT, at TIMESTAMP)"),
            (true, "CREATE TABLE t (id SERIAL, what TEXT, size INT, at TIMESTAMP)"),
            (true, "CREATE TABLE t (id BIGINT PRIMARY KEY, what TEXT, size INT, at TIMESTAMP)"),
            (true, "CREATE TABLE t (id BIGINT PRIMARY KEY DEFAULT 4, what TEXT, size INT, at TIMESTAMP)"),
            (
                true,
                "CREATE TABLE t (id UUID PRIMARY KEY DEFAULT gen_random_uuid(), what TEXT, size INT, at TIMESTAMP)",
            ),
            (true, "CREATE TABLE t (what TEXT, size INT, at TIMESTAMP)"),
            (true, "CREATE TABLE t (size DOUBLE PRECISION NOT NULL, what TEXT NOT NULL, at TIMESTAMP)"),
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
            assert_eq!(session.table_fault(table).await, Ok(None), "{}", table.name);
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
        assert_eq!(session.table_fault(&ledger()).await, Ok(Some(TableFault::name_taken("t"))));
        session.batch("DROP VIEW t").await.expect("goes");
        assert_eq!(session.table_fault(&ledger()).await, Err(StoreError::NoTable("t".to_owned())));
    }
}

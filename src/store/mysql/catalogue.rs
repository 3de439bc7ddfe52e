//! Reads the definition of an existing table from the database's catalogue: engine, columns, unique indexes.

use mysql_async::Value;

use super::Session;
use crate::store::StoreError;
use crate::store::cell::Cell;

/// The definition of an existing table.
pub struct Catalogue {
    /// `None` for something that is not a table, such as an SQL view.
    pub engine: Option<String>,
    pub columns: Vec<ExistingColumn>,
    pub uniques: Vec<UniqueIndex>,
}

/// A column of an existing table.
pub struct ExistingColumn {
    pub name: String,
    /// The name of the type, such as `varchar`.
    pub kind: String,
    /// The whole type, such as `varchar(255)`.
    pub full_kind: String,
    pub null: bool,
    /// The default as the database reports it: MariaDB as SQL, MySQL as a plain value unless it is an expression.
    pub default: Option<String>,
    pub extra: String,
    pub chars_max: i64,
    pub precision: i64,
    pub scale: i64,
    pub character_set: Option<String>,
    pub collation: Option<String>,
    pub generated: bool,
}

/// A unique index of an existing table.
pub struct UniqueIndex {
    pub name: String,
    /// `None` for an expression, and for a prefix of a column.
    pub columns: Vec<Option<String>>,
}

impl Catalogue {
    pub fn column(&self, name: &str) -> Option<&ExistingColumn> {
        self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
    }

    pub fn has_primary_key(&self) -> bool {
        self.uniques.iter().any(UniqueIndex::is_primary)
    }
}

impl ExistingColumn {
    pub fn is_numbered(&self) -> bool {
        self.extra.to_ascii_lowercase().contains("auto_increment")
    }

    pub fn is_integer(&self) -> bool {
        ["int", "bigint"].contains(&self.kind.as_str())
    }

    /// Returns whether an INSERT can omit the column.
    pub fn may_be_omitted(&self) -> bool {
        self.null || self.default.is_some() || self.generated || self.is_numbered()
    }
}

impl UniqueIndex {
    pub fn is_primary(&self) -> bool {
        self.name == "PRIMARY"
    }

    /// Returns whether the index is over exactly these columns, in any order.
    pub fn is_over(&self, names: &[&str]) -> bool {
        self.columns.len() == names.len() && self.covers(names)
    }

    /// Returns whether the index contains all of these columns, and perhaps others.
    pub fn covers(&self, names: &[&str]) -> bool {
        names.iter().all(|name| self.columns.iter().flatten().any(|own| own.eq_ignore_ascii_case(name)))
    }
}

const COLUMNS_SQL: &str = "SELECT column_name, data_type, column_type, is_nullable, column_default, extra,
    character_maximum_length, numeric_precision, numeric_scale, character_set_name, collation_name, generation_expression
    FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ? ORDER BY ordinal_position";

const UNIQUES_SQL: &str = "SELECT index_name, column_name, sub_part FROM information_schema.statistics
    WHERE table_schema = DATABASE() AND table_name = ? AND non_unique = 0 ORDER BY index_name, seq_in_index";

impl Session {
    /// Reads the definition of a table. Fails with `NoTable` if it does not exist.
    pub(super) async fn catalogue(&mut self, table: &str) -> Result<Catalogue, StoreError> {
        let named = || vec![Value::from(table)];
        let sql =
            "SELECT engine FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?";
        let Some(row) = self.read(sql, named()).await?.pop() else {
            return Err(StoreError::NoTable(table.to_owned()));
        };
        let engine = row.into_iter().next().and_then(text);
        let columns = self.read(COLUMNS_SQL, named()).await?.into_iter().map(column).collect();
        let mut uniques: Vec<UniqueIndex> = Vec::new();
        for row in self.read(UNIQUES_SQL, named()).await? {
            let mut cells = row.into_iter();
            let mut next = || cells.next().and_then(text);
            let (name, column, part) = (next().unwrap_or_default(), next(), next());
            let column = column.filter(|_| part.is_none());
            match uniques.last_mut().filter(|unique| unique.name == name) {
                Some(unique) => unique.columns.push(column),
                None => uniques.push(UniqueIndex { name, columns: vec![column] }),
            }
        }
        Ok(Catalogue { engine, columns, uniques })
    }
}

fn column(row: Vec<Cell>) -> ExistingColumn {
    let mut cells = row.into_iter().map(text);
    let mut next = || cells.next().flatten();
    let number = |text: Option<String>| text.and_then(|text| text.parse().ok()).unwrap_or(0);
    ExistingColumn {
        name: next().unwrap_or_default(),
        kind: next().unwrap_or_default().to_ascii_lowercase(),
        full_kind: next().unwrap_or_default(),
        null: next().is_some_and(|word| word == "YES"),
        default: next(),
        extra: next().unwrap_or_default(),
        chars_max: number(next()),
        precision: number(next()),
        scale: number(next()),
        character_set: next(),
        collation: next(),
        generated: next().is_some_and(|expression| !expression.is_empty()),
    }
}

/// Returns a value as text. One of the two databases returns the catalogue's texts as bytes.
fn text(cell: Cell) -> Option<String> {
    match cell {
        Cell::Text(text) => Some(text),
        Cell::Integer(number) => Some(number.to_string()),
        Cell::Bytes(bytes) => String::from_utf8(bytes).ok(),
        _ => None,
    }
}

//! Table declarations that are independent of the database, and millrace's own tables.

use super::definitions::NewDefinition;
use super::sql_view::SqlView;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    Text {
        chars_max: u32,
    },
    LongText,
    /// A JSON value, stored as text.
    Json,
    Integer,
    Decimal,
    Time,
    Boolean,
    /// Identities and hashes. The bounded length allows them in a key on every database.
    Bytes {
        bytes_max: u32,
    },
    /// Bytes of any length; never part of a key.
    LongBytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub kind: ColumnKind,
    /// True if the column may be null.
    pub null: bool,
}

/// A table of a view, or of millrace itself. The first `key_columns` columns are its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    pub columns: Vec<Column>,
    pub key_columns: usize,
    /// The name of an additional column that numbers the rows of a table without a key.
    pub id: Option<String>,
    /// The index of a column, in addition to the key, whose values are unique.
    pub unique: Option<usize>,
    /// The index of a text column beyond the key that compares byte for byte, as the key does.
    pub by_bytes: Option<usize>,
    /// How the rows of each group are ranked, if a query asks for the first of them.
    pub ranking: Option<TopK>,
}

/// Ranks the rows of each group by their single number, largest first, so that a query does not have to scan the whole
/// group. Rows with equal numbers are ordered by the last key column, with empty text last. The other key columns form
/// the group.
///
/// Database servers use an index, which is cheap there. SQLite keeps the top rows of each group in the two tables
/// that are named here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopK {
    pub top_table: String,
    pub floor_table: String,
    /// The largest limit of a query.
    pub limit_max: usize,
}

impl Table {
    /// Declares a table. A column name that ends in `?` is nullable.
    pub fn new(name: &str, key_columns: usize, columns: &[(&str, ColumnKind)]) -> Self {
        let columns = columns
            .iter()
            .map(|(name, kind)| Column {
                name: name.trim_end_matches('?').to_owned(),
                kind: *kind,
                null: name.ends_with('?'),
            })
            .collect();
        Self {
            name: name.to_owned(),
            columns,
            key_columns,
            id: None,
            unique: None,
            by_bytes: None,
            ranking: None,
        }
    }

    /// Returns the name of the column that numbers the rows.
    pub fn number_column(&self) -> &str {
        self.id.as_deref().expect("a table with one row per event has a number column")
    }

    /// Returns the declaration of the primary key, if there is one.
    pub fn primary_key(&self) -> Option<String> {
        let names: Vec<String> =
            self.columns[..self.key_columns].iter().map(|column| quote(&column.name)).collect();
        (!names.is_empty()).then(|| format!("PRIMARY KEY ({})", names.join(", ")))
    }

    /// Declares a table without a key, whose rows are numbered in the order in which they are added.
    pub fn numbered(name: &str, id: &str, columns: Vec<Column>) -> Self {
        let (name, id) = (name.to_owned(), Some(id.to_owned()));
        Self { name, columns, key_columns: 0, id, unique: None, by_bytes: None, ranking: None }
    }
}

/// The tables that a view needs before its first batch.
#[derive(Clone, Debug, Default)]
pub struct ViewTables {
    pub tables: Vec<Table>,
    /// The opening amounts to keep from the first table.
    pub opening: Option<Opening>,
    /// True if the tables are recorded as owned by this view, so that no other view writes to them.
    pub owned: bool,
    /// The definition under which the view begins.
    pub definition: Option<NewDefinition>,
    /// The SQL views to make beside the tables.
    pub sql_views: Vec<SqlView>,
}

impl ViewTables {
    /// Declares one table that the view owns, without opening amounts.
    pub fn owned(table: &Table) -> Self {
        Self { tables: vec![table.clone()], owned: true, ..Self::default() }
    }
}

/// The amounts that a table held before its view began. They stay in the table, and a separate copy is stored for
/// rebuilds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    pub view: String,
    pub key_column: String,
    pub amount_column: String,
}

/// Quotes a name for SQL.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

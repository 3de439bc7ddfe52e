//! Table declarations that are independent of the database, and millrace's own tables.

use std::sync::Arc;

use event::{Decimal, Millis};

/// One value of a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    Null,
    Text(String),
    Integer(i64),
    Decimal(Decimal),
    Time(Millis),
    Bytes(Vec<u8>),
}

impl Cell {
    /// Returns the cell as an amount. Databases return amounts as decimals, text or integers.
    pub fn decimal(&self) -> Option<Decimal> {
        match self {
            Self::Decimal(amount) => Some(*amount),
            Self::Text(text) => text.parse().ok(),
            Self::Integer(number) => number.to_string().parse().ok(),
            Self::Null | Self::Time(_) | Self::Bytes(_) => None,
        }
    }

    /// Returns the cell as a count. Some databases return sums as decimals.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Decimal(sum) => sum.to_string().parse().ok(),
            Self::Null | Self::Text(_) | Self::Time(_) | Self::Bytes(_) => None,
        }
    }
}

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
    pub derived_index: DerivedIndex,
}

/// Additional tables or indexes that a database updates in the transaction that changes the main table. With them, a
/// query does not have to scan the whole main table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DerivedIndex {
    #[default]
    Nothing,
    TopK(TopK),
    DayGaps(DayGaps),
}

/// Ranks the rows of each group by their single number, largest first. Rows with equal numbers are ordered by the
/// last key column, with empty text last. The other key columns form the group.
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

/// Counts distinct members of a group in any range of days.
///
/// The main table has a row for each member and day, with the number of visits. Its rows do not contain the group,
/// because a member's identity already includes it.
///
/// The derived `table` counts, for each group, the members that came on `day` and whose last earlier day was `before`
/// (0 if they never came before). Its row of day 0 counts all members of the group. Its columns are the group's
/// columns, `day` and `before`, which together are the key, and a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DayGaps {
    pub table: Arc<Table>,
}

impl DayGaps {
    /// Returns the number of columns that form the group.
    pub fn group_columns(&self) -> usize {
        self.table.key_columns - 2
    }
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
            derived_index: DerivedIndex::Nothing,
        }
    }

    /// Declares a table without a key, whose rows are numbered in the order in which they are added.
    pub fn numbered(name: &str, id: &str, columns: Vec<Column>) -> Self {
        let (name, id) = (name.to_owned(), Some(id.to_owned()));
        Self { name, columns, key_columns: 0, id, unique: None, derived_index: DerivedIndex::Nothing }
    }

    /// Adds a derived index to the declaration.
    pub fn with(self, derived_index: DerivedIndex) -> Self {
        Self { derived_index, ..self }
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
}

impl ViewTables {
    /// Declares one table that the view owns, without opening amounts.
    pub fn owned(table: &Table) -> Self {
        Self { tables: vec![table.clone()], opening: None, owned: true }
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

//! How a view declares its tables, in words that every database understands, and the tables that are
//! millrace's own.

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
    /// An amount, as whichever database gives it back.
    pub fn decimal(&self) -> Option<Decimal> {
        match self {
            Self::Decimal(amount) => Some(*amount),
            Self::Text(text) => text.parse().ok(),
            Self::Integer(number) => number.to_string().parse().ok(),
            Self::Null | Self::Time(_) | Self::Bytes(_) => None,
        }
    }

    /// A count. Sums come back as decimals from some databases.
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
    /// A JSON value in its own text.
    Json,
    Integer,
    Decimal,
    Time,
    Boolean,
    /// Identities and hashes: never longer than this, so that they can be part of a key anywhere.
    Bytes {
        bytes_max: u32,
    },
    /// Bytes of any length, never part of a key.
    LongBytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub kind: ColumnKind,
    pub null: bool,
}

/// A table as a view, or millrace itself, needs it. The first `key_columns` columns are its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    pub columns: Vec<Column>,
    pub key_columns: usize,
    /// The column, beside those, that numbers rows which have no key.
    pub id: Option<String>,
    /// A column, beside the key, of which no two rows hold the same.
    pub unique: Option<usize>,
    pub derived_index: DerivedIndex,
}

/// What a database keeps in step with the rows of a table, in the same transaction, so that a question is
/// answered without a walk over all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DerivedIndex {
    #[default]
    Nothing,
    TopK(TopK),
    DayGaps(DayGaps),
}

/// Rows are asked for in the order of their one number, the largest first; of equal ones by the last column
/// of the key, empty text after all other. A group of rank is what the other columns of the key say. Where an
/// index costs little this is an index; SQLite keeps the first of each group in tables of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopK {
    pub boards: String,
    pub floors: String,
    /// As many are asked for at most.
    pub asked_max: usize,
}

/// Rows are of a member and a day, and the number says how often the member came then. Members belong to
/// groups, of which the rows say nothing: a member's name is made of its group's, too. How many members of a
/// group came on `day` and on `before` the last time before that (0: never) is kept in this table, and under
/// day 0 how many there are at all. Its columns are the group's, then these two days, its key, and a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DayGaps {
    pub table: Arc<Table>,
}

impl DayGaps {
    pub fn group_columns(&self) -> usize {
        self.table.key_columns - 2
    }
}

impl Table {
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

    /// A table whose rows have a number, given in the order in which they come, and no key.
    pub fn numbered(name: &str, id: &str, columns: Vec<Column>) -> Self {
        let (name, id) = (name.to_owned(), Some(id.to_owned()));
        Self { name, columns, key_columns: 0, id, unique: None, derived_index: DerivedIndex::Nothing }
    }

    pub fn with(self, derived_index: DerivedIndex) -> Self {
        Self { derived_index, ..self }
    }
}

/// What a view needs to be there before its first batch.
#[derive(Clone, Debug, Default)]
pub struct ViewTables {
    pub tables: Vec<Table>,
    /// Of the first table.
    pub opening: Option<Opening>,
    /// Whether they are noted as this view's own, so that no other view writes them.
    pub owned: bool,
}

impl ViewTables {
    /// One table of the view's own, whatever it held before.
    pub fn owned(table: &Table) -> Self {
        Self { tables: vec![table.clone()], opening: None, owned: true }
    }
}

/// What a table held before its view: it stays, and is kept apart so that a rebuild knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    pub view: String,
    pub key_column: String,
    pub amount_column: String,
}

/// A name as SQL takes it, whatever it is made of.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

const NAME: ColumnKind = ColumnKind::Text { chars_max: 255 };
/// Of a log, an event or a source.
const IDENTITY: ColumnKind = ColumnKind::Bytes { bytes_max: 16 };
const BODY_HASH: ColumnKind = ColumnKind::Bytes { bytes_max: 8 };
const SECRET_HASH: ColumnKind = ColumnKind::Bytes { bytes_max: 32 };

/// Positions: one row a view and log, moved by the claim.
pub fn positions_table() -> Table {
    Table::new(
        "millrace_positions",
        3,
        &[
            ("view", NAME),
            ("log_id", IDENTITY),
            ("part", ColumnKind::Integer),
            ("position", ColumnKind::Integer),
            // Of the plan that moved it last.
            ("stamp?", IDENTITY),
        ],
    )
}

/// What the gate has seen: client ids (line 0, 1 line) and runs of lines of a source.
pub fn dedup_table() -> Table {
    Table::new(
        "millrace_seen",
        2,
        &[
            ("identity", IDENTITY),
            ("first_line", ColumnKind::Integer),
            ("line_count", ColumnKind::Integer),
            ("log_id", IDENTITY),
            ("position", ColumnKind::Integer),
            ("body_hash", BODY_HASH),
            ("received", ColumnKind::Integer),
            ("kept", ColumnKind::Integer),
        ],
    )
}

/// Positions that the gate let nobody see: repeats, and the same id with another body.
pub fn skipped_table() -> Table {
    Table::new(
        "millrace_skipped",
        3,
        &[
            ("log_id", IDENTITY),
            ("part", ColumnKind::Integer),
            ("position", ColumnKind::Integer),
            ("first_log_id", IDENTITY),
            ("first_position", ColumnKind::Integer),
            ("same_body", ColumnKind::Integer),
        ],
    )
}

/// Events that were taken back, each with the correction that did it.
pub fn taken_back_table() -> Table {
    Table::new(
        "millrace_taken_back",
        3,
        &[
            ("log_id", IDENTITY),
            ("part", ColumnKind::Integer),
            ("position", ColumnKind::Integer),
            ("by_position", ColumnKind::Integer),
        ],
    )
}

pub fn dead_letters_table() -> Table {
    Table::new(
        "millrace_dead_letters",
        1,
        &[
            ("id", NAME),
            ("view", NAME),
            ("log_id", IDENTITY),
            ("part", ColumnKind::Integer),
            ("position", ColumnKind::Integer),
            ("event_id", NAME),
            ("stream", NAME),
            ("reason", ColumnKind::LongText),
            ("event", ColumnKind::LongText),
            ("status", NAME),
            ("attempts", ColumnKind::Integer),
            ("created", ColumnKind::Integer),
            ("updated", ColumnKind::Integer),
        ],
    )
}

/// Positions that a view passed by, each with its dead letter: a rebuild passes them by as well.
pub fn passed_table() -> Table {
    Table::new(
        "millrace_passed",
        4,
        &[
            ("view", NAME),
            ("log_id", IDENTITY),
            ("part", ColumnKind::Integer),
            ("position", ColumnKind::Integer),
        ],
    )
}

/// What was asked to be erased: how far it is, and in the end that it was done.
pub fn erasures_table() -> Table {
    Table::new(
        "millrace_erasures",
        1,
        &[
            ("id", NAME),
            ("stream", NAME),
            ("field", NAME),
            ("value_hash", NAME),
            ("asked_by", NAME),
            ("log_id", IDENTITY),
            ("part", ColumnKind::Integer),
            ("events", ColumnKind::Integer),
            ("asked", ColumnKind::Integer),
            ("done?", ColumnKind::Integer),
            ("value", ColumnKind::LongText),
            ("positions", ColumnKind::LongBytes),
            ("undone", ColumnKind::LongBytes),
        ],
    )
}

/// Up to where a stream's old events were given up.
pub fn retained_table() -> Table {
    Table::new(
        "millrace_retained",
        3,
        &[
            ("stream", NAME),
            ("log_id", IDENTITY),
            ("part", ColumnKind::Integer),
            ("position", ColumnKind::Integer),
            ("blanked", ColumnKind::Integer),
        ],
    )
}

/// Which event made which row of a table without a key: an entry for what one plan put into it. Its
/// `places` are in the form of `store/places.rs`.
pub fn rows_table() -> Table {
    Table::new(
        "millrace_rows",
        4,
        &[
            ("view", NAME),
            ("log_id", IDENTITY),
            ("part", ColumnKind::Integer),
            ("first_position", ColumnKind::Integer),
            ("last_position", ColumnKind::Integer),
            ("first_row", ColumnKind::Integer),
            ("last_row", ColumnKind::Integer),
            ("row_count", ColumnKind::Integer),
            ("received_min", ColumnKind::Integer),
            ("received_max", ColumnKind::Integer),
            ("places", ColumnKind::LongBytes),
        ],
    )
}

pub fn opening_table() -> Table {
    Table::new("millrace_opening", 2, &[("view", NAME), ("row_key", NAME), ("amount", ColumnKind::Decimal)])
}

pub fn keys_table() -> Table {
    Table::new(
        "millrace_keys",
        1,
        &[
            ("id", NAME),
            ("name", NAME),
            ("hash", SECRET_HASH),
            ("scopes", NAME),
            ("streams", ColumnKind::LongText),
            ("view_key?", ColumnKind::LongText),
            ("created", ColumnKind::Integer),
            ("revoked?", ColumnKind::Integer),
        ],
    )
}

/// All that is made when a store is first opened.
pub fn own_tables() -> Vec<Table> {
    vec![
        positions_table(),
        dedup_table(),
        skipped_table(),
        taken_back_table(),
        dead_letters_table(),
        passed_table(),
        rows_table(),
        opening_table(),
        erasures_table(),
        retained_table(),
        keys_table(),
    ]
}

/// Indexes over tables of ours: name, table, columns.
pub const OWN_INDEXES: [(&str, &str, &[&str]); 5] = [
    ("millrace_seen_age", "millrace_seen", &["kept", "received"]),
    ("millrace_taken_back_by", "millrace_taken_back", &["log_id", "by_position"]),
    ("millrace_rows_last", "millrace_rows", &["view", "last_row"]),
    ("millrace_dead_letters_status", "millrace_dead_letters", &["status", "id"]),
    ("millrace_dead_letters_place", "millrace_dead_letters", &["log_id", "position", "view"]),
];

/// Written into the store; a store of a later schema is refused. One of an earlier schema gets the tables and
/// columns that it does not have: what was written before stays as it is. 2: `stamp` of a position.
pub const SCHEMA_VERSION: i64 = 2;

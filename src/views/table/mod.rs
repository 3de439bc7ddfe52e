//! The kind `table`: a row an event, with those of its fields that were chosen.

mod fold;
mod query;

use std::sync::Arc;

use event::{Fields, Kind};

use crate::store::{Column, ColumnKind, Table};

pub use query::{FilterError, RowsPage, shown};

#[derive(Clone)]
pub struct RowTable {
    table: Arc<Table>,
    /// What each column is filled with, in the table's order.
    sources: Vec<ColumnSource>,
    /// The fields that are read, in the order of their columns.
    wanted: Vec<usize>,
}

/// What a column is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnSource {
    Field {
        /// Its index among the stream's fields.
        field: usize,
        /// What stands in where it is absent.
        default: Option<EnvelopeField>,
    },
    Envelope(EnvelopeField),
}

/// What every event has, whatever was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvelopeField {
    /// When it was received.
    Received,
    /// Its id as text.
    Id,
    /// The address it came from, where that is known.
    Address,
}

/// Characters of an event's id, and of the longest address.
const ID_CHARS: u32 = 36;
const ORIGIN_CHARS_MAX: u32 = 45;

impl RowTable {
    /// `columns` are names with what fills them, `id` the column that numbers the rows.
    pub fn new(name: &str, id: &str, columns: &[(String, ColumnSource)], fields: &Fields) -> Self {
        let declared = columns.iter().map(|(name, source)| {
            let (kind, null) = match *source {
                ColumnSource::Envelope(given) => (given.kind(), given == EnvelopeField::Address),
                ColumnSource::Field { field, default } => {
                    let field = fields.get(field);
                    (column_kind(field.kind), !field.required && default.is_none())
                }
            };
            Column { name: name.clone(), kind, null }
        });
        let sources: Vec<ColumnSource> = columns.iter().map(|(_, source)| *source).collect();
        let wanted = sources.iter().filter_map(|source| match source {
            ColumnSource::Field { field, .. } => Some(*field),
            ColumnSource::Envelope(_) => None,
        });
        Self {
            table: Arc::new(Table::numbered(name, id, declared.collect())),
            wanted: wanted.collect(),
            sources,
        }
    }

    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// The same rows in another table.
    pub fn in_table(&self, name: &str) -> Self {
        let table = Table { name: name.to_owned(), ..self.table.as_ref().clone() };
        Self { table: Arc::new(table), ..self.clone() }
    }

    fn id(&self) -> &str {
        self.table.id.as_deref().expect("its rows are numbered")
    }
}

impl EnvelopeField {
    fn kind(self) -> ColumnKind {
        match self {
            Self::Received => ColumnKind::Time,
            Self::Id => ColumnKind::Text { chars_max: ID_CHARS },
            Self::Address => ColumnKind::Text { chars_max: ORIGIN_CHARS_MAX },
        }
    }
}

fn column_kind(kind: Kind) -> ColumnKind {
    match kind {
        Kind::Text { chars_max, .. } => ColumnKind::Text { chars_max },
        Kind::Integer { .. } => ColumnKind::Integer,
        Kind::Decimal { .. } => ColumnKind::Decimal,
        Kind::Time => ColumnKind::Time,
        Kind::Boolean => ColumnKind::Boolean,
        Kind::Any => ColumnKind::Json,
    }
}

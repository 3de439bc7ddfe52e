//! The kind `table`: one row for each event, with the columns that the configuration declares.

mod definition;
mod fold;
mod query;
mod section;

use std::sync::Arc;

use event::limits::{CLIENT_CHARS_MAX, USER_AGENT_CHARS_MAX};
use event::{Fields, Kind};

use crate::store::{Column, ColumnKind, Table};

pub use definition::RowTableDefinition;
pub use query::{FilterError, RowsPage, cell_json};
pub use section::RowTableSection;

#[derive(Clone, Debug)]
pub struct RowTable {
    table: Arc<Table>,
    /// The content of each column, in the table's order.
    sources: Vec<ColumnSource>,
    /// The fields to read, in the order of their columns.
    wanted: Vec<usize>,
}

/// The part of an event that fills a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnSource {
    Field {
        /// The index in the stream's fields.
        field: usize,
        /// The value to use if the field is absent.
        default: Option<EnvelopeField>,
    },
    Envelope(EnvelopeField),
}

/// A part of the envelope, which every event has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvelopeField {
    /// The time at which the event was received.
    Received,
    /// The event's id, as text.
    Id,
    /// The sender's address, if it is known.
    Address,
    /// The name that the server gave to the sender's connection, if it is one that stays open.
    Client,
    /// The program that sent the event, as it describes itself.
    UserAgent,
}

/// The length of an event's id.
const ID_CHARS: u32 = 36;
/// The length of the longest address.
const ADDRESS_CHARS_MAX: u32 = 45;

impl RowTable {
    /// Creates a table view. `columns` are the columns' names and contents; `id` is the column that numbers the rows.
    pub fn new(name: &str, id: &str, columns: &[(String, ColumnSource)], fields: &Fields) -> Self {
        let declared = columns.iter().map(|(name, source)| {
            let (kind, null) = match *source {
                ColumnSource::Envelope(envelope) => (envelope.kind(), envelope.may_be_absent()),
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

    /// Returns the same view with another table.
    pub fn in_table(&self, name: &str) -> Self {
        let table = Table { name: name.to_owned(), ..self.table.as_ref().clone() };
        Self { table: Arc::new(table), ..self.clone() }
    }

    fn id(&self) -> &str {
        self.table.id.as_deref().expect("the rows of a table view are numbered")
    }
}

impl EnvelopeField {
    pub const ALL: [Self; 5] = [Self::Received, Self::Id, Self::Address, Self::Client, Self::UserAgent];

    /// Returns the name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Received => "$received",
            Self::Id => "$id",
            Self::Address => "$address",
            Self::Client => "$client",
            Self::UserAgent => "$user_agent",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|envelope| envelope.name() == name)
    }

    fn kind(self) -> ColumnKind {
        match self {
            Self::Received => ColumnKind::Time,
            Self::Id => ColumnKind::Text { chars_max: ID_CHARS },
            Self::Address => ColumnKind::Text { chars_max: ADDRESS_CHARS_MAX },
            Self::Client => ColumnKind::Text { chars_max: CLIENT_CHARS_MAX as u32 },
            Self::UserAgent => ColumnKind::Text { chars_max: USER_AGENT_CHARS_MAX as u32 },
        }
    }

    /// Returns whether some events have no such value.
    fn may_be_absent(self) -> bool {
        matches!(self, Self::Address | Self::Client | Self::UserAgent)
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

//! The columns of a table in the form in which the store keeps them.

use std::collections::BTreeMap;

use event::Fields;
use serde::{Deserialize, Serialize};

use super::{ColumnSource, EnvelopeField, RowTable};
use crate::store::Table;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowTableDefinition {
    /// What fills each column: the name of a field, or `$` and the name of a part of the envelope.
    columns: BTreeMap<String, String>,
    /// What fills the columns whose field is absent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    defaults: BTreeMap<String, String>,
}

impl RowTable {
    pub fn definition(&self, fields: &Fields) -> RowTableDefinition {
        let mut definition = RowTableDefinition { columns: BTreeMap::new(), defaults: BTreeMap::new() };
        for (column, source) in self.table.columns.iter().zip(&self.sources) {
            let filled_by = match source {
                ColumnSource::Field { field, default } => {
                    if let Some(default) = default {
                        definition.defaults.insert(column.name.clone(), default.name().to_owned());
                    }
                    fields.get(*field).name.clone()
                }
                ColumnSource::Envelope(envelope) => envelope.name().to_owned(),
            };
            definition.columns.insert(column.name.clone(), filled_by);
        }
        definition
    }

    /// Returns the fields that the table reads.
    pub fn fields_read(&self) -> Vec<usize> {
        self.wanted.clone()
    }
}

impl RowTableDefinition {
    /// Returns a table view that fills the columns of `table` that this definition has, too. The others of its columns
    /// belong to events under another definition.
    pub fn build(&self, fields: &Fields, table: &RowTable) -> Option<RowTable> {
        let (mut columns, mut sources, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
        for column in &table.table.columns {
            let Some(filled_by) = self.columns.get(&column.name) else { continue };
            let source = match EnvelopeField::named(filled_by) {
                Some(envelope) => ColumnSource::Envelope(envelope),
                None => {
                    let field = fields.index_of(filled_by)?;
                    wanted.push(field);
                    let default = self.defaults.get(&column.name).and_then(|name| EnvelopeField::named(name));
                    ColumnSource::Field { field, default }
                }
            };
            columns.push(column.clone());
            sources.push(source);
        }
        let table = Table { columns, ..table.table.as_ref().clone() };
        Some(RowTable { table: table.into(), sources, wanted })
    }
}

//! A ledger keeps one exact balance for each key. Every event adds to a balance or subtracts from it.

mod definition;
mod fold;
mod query;
mod section;

use std::collections::BTreeMap;
use std::sync::Arc;

use event::limits::KEY_CHARS_MAX;

use crate::store::{ColumnKind, Opening, Table};

pub use definition::LedgerDefinition;
pub use query::Balance;
pub use section::LedgerSection;

#[derive(Clone, Debug)]
pub struct Ledger {
    table: Arc<Table>,
    rule: Rule,
    key: usize,
}

/// The rule by which an event changes the balance of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// All events use the same field as their amount.
    Always(Amount),
    /// The text of one field selects the amount.
    By { field: usize, amounts: BTreeMap<String, Amount> },
}

/// A field with a number, which is added, or subtracted if `negative`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount {
    pub field: usize,
    pub negative: bool,
}

impl Ledger {
    /// Creates a ledger. `key` is the index of the key in the stream's fields.
    pub fn new(table: &str, [key_column, amount_column]: [&str; 2], key: usize, rule: Rule) -> Self {
        let columns = [
            (key_column, ColumnKind::Text { chars_max: KEY_CHARS_MAX }),
            (amount_column, ColumnKind::Decimal),
        ];
        Self { table: Arc::new(Table::new(table, 1, &columns)), rule, key }
    }

    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table)
    }

    pub fn opening(&self, view: &str) -> Opening {
        let [key, amount] = self.columns();
        Opening { view: view.to_owned(), key_column: key.to_owned(), amount_column: amount.to_owned() }
    }

    /// Returns the index of the key in the stream's fields.
    pub fn key_field(&self) -> usize {
        self.key
    }

    /// Returns the same ledger in another table.
    pub fn in_table(&self, name: &str) -> Self {
        let table = Table { name: name.to_owned(), ..self.table.as_ref().clone() };
        Self { table: Arc::new(table), ..self.clone() }
    }

    /// Returns the names of the key column and the amount column.
    pub fn columns(&self) -> [&str; 2] {
        [&self.table.columns[0].name, &self.table.columns[1].name]
    }
}

//! The ledger: one exact balance a key, to which every event adds or from which it takes.

mod fold;
mod query;

use std::collections::BTreeMap;
use std::sync::Arc;

use event::limits::KEY_CHARS_MAX;

use crate::store::{ColumnKind, Opening, Table};

pub use query::Balance;

#[derive(Clone)]
pub struct Ledger {
    table: Arc<Table>,
    rule: Rule,
    key: usize,
}

/// What an event does to its key's balance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    Always(Amount),
    /// By the text of one field.
    By {
        field: usize,
        amounts: BTreeMap<String, Amount>,
    },
}

/// `+value` or `-value`: a field with its sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount {
    pub field: usize,
    pub negative: bool,
}

impl Ledger {
    /// `key` is the index of the key among the stream's fields.
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

    /// The index of the key among the stream's fields.
    pub fn key_field(&self) -> usize {
        self.key
    }

    /// The same ledger in another table.
    pub fn in_table(&self, name: &str) -> Self {
        let table = Table { name: name.to_owned(), ..self.table.as_ref().clone() };
        Self { table: Arc::new(table), ..self.clone() }
    }

    /// The names of the key's and the amount's column.
    pub fn columns(&self) -> [&str; 2] {
        [&self.table.columns[0].name, &self.table.columns[1].name]
    }
}

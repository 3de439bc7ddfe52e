//! SQL views that millrace creates beside the tables of its views, for people who read the database with their own SQL.
//! They contain no data of their own.

use super::tables::{ColumnKind, Table, ViewTables, quote};

/// An SQL view: its columns and the tables that it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlView {
    pub name: String,
    pub columns: Vec<(String, SqlValue)>,
    /// The SQL after `FROM`.
    pub from: String,
    /// True if the SQL view only shows amounts as numbers. It is made where amounts are stored as text.
    pub only_for_text_amounts: bool,
}

/// A column of an SQL view, as an SQL expression. Each database converts it in its own way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SqlValue {
    Plain(String),
    /// An amount.
    Amount(String),
    /// A sum of integers, which some databases return as a decimal.
    Count(String),
    /// A day as millrace stores it, for example 20251101.
    Day(String),
}

impl SqlView {
    /// Declares the SQL view with the columns of a table, in which amounts are numbers that can be compared.
    fn numeric(table: &Table) -> Self {
        let id = table.id.iter().map(|id| (id.clone(), SqlValue::Plain(quote(id))));
        let columns = table.columns.iter().map(|column| {
            let name = quote(&column.name);
            let is_amount = column.kind == ColumnKind::Decimal;
            (column.name.clone(), if is_amount { SqlValue::Amount(name) } else { SqlValue::Plain(name) })
        });
        Self {
            name: format!("{}_numeric", table.name),
            columns: id.chain(columns).collect(),
            from: quote(&table.name),
            only_for_text_amounts: true,
        }
    }

    /// Returns the query of the SQL view. `convert` returns a column's expression in the SQL of one database.
    pub fn query(&self, convert: impl Fn(&SqlValue) -> String) -> String {
        let column = |(name, value): &(String, SqlValue)| format!("{} AS {}", convert(value), quote(name));
        let columns: Vec<String> = self.columns.iter().map(column).collect();
        format!("SELECT {} FROM {}", columns.join(", "), self.from)
    }
}

impl ViewTables {
    /// Adds an SQL view with numeric amounts for each table that has amounts.
    pub fn with_numeric_sql_views(mut self) -> Self {
        let has_amounts =
            |table: &&Table| table.columns.iter().any(|column| column.kind == ColumnKind::Decimal);
        self.sql_views.extend(self.tables.iter().filter(has_amounts).map(SqlView::numeric));
        self
    }
}

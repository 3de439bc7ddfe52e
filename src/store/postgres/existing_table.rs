//! What the catalogue says about the columns and unique indexes of an existing table.

/// A column of an existing table; for a domain, with the type beneath it.
#[derive(Clone, Debug)]
pub struct ExistingColumn {
    pub name: String,
    pub kind: String,
    /// The type as SQL writes it.
    pub shown: String,
    pub modifier: i32,
    pub not_null: bool,
    pub has_default: bool,
    /// Computed from other columns, so it cannot be written.
    pub generated: bool,
    pub deterministic: bool,
    pub primary: bool,
    /// The database gives each row a different value.
    pub numbered: bool,
}

/// A unique index of an existing table.
#[derive(Clone, Debug)]
pub struct UniqueIndex {
    pub name: String,
    pub is_constraint: bool,
    /// Valid and not partial: it covers all rows.
    pub whole: bool,
    /// Checked by each statement, and not only at the end of a transaction.
    pub immediate: bool,
    pub deterministic: bool,
    /// Ordered by name; `None` for an expression.
    pub columns: Vec<Option<String>>,
}

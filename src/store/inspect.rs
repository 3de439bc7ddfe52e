//! Looks at a store before it is used: whether it can be reached, and whether the views can use their existing tables.
//! Creates and changes nothing, not even millrace's own tables.

use std::path::Path;

use super::table_fault::TableFault;
use super::tables::ViewTables;
use super::{OpenError, Password, Store, StoreError, remote, sqlite};

/// The result of an inspection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreInspection {
    /// The store's kind and location, without a password.
    pub name: String,
    /// False if the file or the database does not exist yet. Then nothing can be wrong with its tables.
    pub exists: bool,
    /// Settings of the database server with which it can lose data.
    pub warnings: Vec<String>,
    /// The faults of the tables, each with the name of its view.
    pub faults: Vec<(String, TableFault)>,
}

/// Inspects the store at `url` for these views. Fails if it cannot be reached or millrace cannot use it at all.
pub async fn inspect_store(
    url: &str,
    password: &Password,
    data: &Path,
    views: &[(String, ViewTables)],
) -> Result<StoreInspection, OpenError> {
    match Store::sqlite_file(url, data) {
        Some(file) => sqlite::inspect(&file, views),
        None => remote::inspect(url, password, views).await,
    }
}

impl Store {
    /// Returns everything because of which `view` cannot use its existing tables. Creates and changes nothing, and
    /// works before the view has begun. A missing table is not a fault.
    pub async fn check_view(&self, view: &str, tables: &ViewTables) -> Result<Vec<TableFault>, StoreError> {
        either!(self: Sqlite | Remote, store => store.check_view(view, tables).await)
    }
}

//! Copies the whole store into one file, for a backup that is taken while writes continue.

use std::path::Path;

use super::{Store, StoreError, ViewPosition};

const ON_A_SERVER: &str = "the store is a database server; back it up with the server's own tools";

impl Store {
    /// Returns the name of the database server if the store is on one. A server is backed up with its own tools.
    pub fn server_name(&self) -> Option<String> {
        match self {
            Self::Sqlite(_) => None,
            Self::Remote(store) => Some(store.name()),
        }
    }

    /// Writes a consistent copy of the store into a file at `target`, and returns the views' positions in the copy.
    /// Blocks. Fails with `Closed` once `wanted` returns false.
    pub fn snapshot(
        &self,
        target: &Path,
        wanted: impl Fn() -> bool,
    ) -> Result<Vec<ViewPosition>, StoreError> {
        match self {
            Self::Sqlite(store) => store.snapshot(target, wanted),
            Self::Remote(_) => Err(StoreError::Blocked(ON_A_SERVER.to_owned())),
        }
    }

    /// Returns the estimated size of a snapshot. Blocks.
    pub fn snapshot_bytes(&self) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(store) => store.snapshot_bytes(),
            Self::Remote(_) => Err(StoreError::Blocked(ON_A_SERVER.to_owned())),
        }
    }
}

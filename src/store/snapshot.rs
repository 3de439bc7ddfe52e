//! All of a store as one file, for a backup that is taken while others go on writing.

use std::path::Path;

use super::{Store, StoreError, ViewPosition};

const ELSEWHERE: &str = "the store is a database server, which is backed up with its own tools";

impl Store {
    /// The server that keeps the store, if it is no file of ours: it is backed up with its own tools.
    pub fn elsewhere(&self) -> Option<String> {
        match self {
            Self::Sqlite(_) => None,
            Self::Remote(store) => Some(store.name()),
        }
    }

    /// Writes all that is in the store, as it is at one moment, into a file at `target`; the answer is the
    /// positions of that moment. Blocks, and ends in `Closed` once it is no more `wanted`.
    pub fn snapshot(
        &self,
        target: &Path,
        wanted: impl Fn() -> bool,
    ) -> Result<Vec<ViewPosition>, StoreError> {
        match self {
            Self::Sqlite(store) => store.snapshot(target, wanted),
            Self::Remote(_) => Err(StoreError::Blocked(ELSEWHERE.to_owned())),
        }
    }

    /// How much room a snapshot will take. Blocks.
    pub fn snapshot_bytes(&self) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(store) => store.snapshot_bytes(),
            Self::Remote(_) => Err(StoreError::Blocked(ELSEWHERE.to_owned())),
        }
    }
}

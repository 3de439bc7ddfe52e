//! The generation of a view's rows. It changes whenever rows that readers may hold were replaced or erased: by a rebuild,
//! and by the erasure of a person. Readers then read everything again.

use event::limits::GENERATION_TRIES_MAX;
use event::{Backoff, Millis};

use super::cell::Cell;
use super::stored_row::FromCell;
use super::{Store, StoreError};

/// A number that only grows. It begins with the time, so that a view that is dropped and begins again has another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(pub i64);

impl Generation {
    /// Returns the generation of a view that begins now.
    pub fn first() -> Self {
        Self(Millis::now().0)
    }
}

impl Store {
    /// Notes that rows of the view were replaced or erased.
    pub async fn begin_generation(&self, view: &str) -> Result<(), StoreError> {
        let sql = "UPDATE millrace_positions SET generation = \
                   CASE WHEN coalesce(generation, 0) >= ? THEN generation + 1 ELSE ? END WHERE view = ?";
        let now = || Cell::from(Generation::first());
        let mut backoff = Backoff::default();
        for _ in 1..GENERATION_TRIES_MAX {
            match self.change(sql.to_owned(), vec![now(), now(), view.into()]).await {
                // The view moves its position in the same row at any time, and a database may find a deadlock.
                Err(StoreError::Transient(_)) => tokio::time::sleep(backoff.pause()).await,
                changed => return changed.map(drop),
            }
        }
        self.change(sql.to_owned(), vec![now(), now(), view.into()]).await.map(drop)
    }
}

impl From<Generation> for Cell {
    fn from(generation: Generation) -> Self {
        Self::Integer(generation.0)
    }
}

impl FromCell for Generation {
    fn from_cell(cell: Cell) -> Option<Self> {
        cell.integer().map(Self)
    }
}

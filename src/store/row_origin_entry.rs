//! One row of `millrace_rows`: the origins of the rows that one plan added, or a few small plans. Entries of one view
//! and log never overlap. Each database has its own code that reads and writes entries.

use event::limits::ROW_ORIGINS_JOINED_MAX;

use super::row_origins::{self, RowOrigin, RowOriginBase};
use super::stored_row::{corrupt_row, decoded};
use super::{Cell, StoreError};

pub struct RowOriginEntry {
    pub base: RowOriginBase,
    pub last_position: u64,
    /// The encoded origins.
    pub bytes: Vec<u8>,
}

/// The columns that [`RowOriginEntry::read`] expects, in this order.
pub const COLUMNS: &str = "first_position, first_row, received_min, last_position, places";

impl RowOriginEntry {
    /// Decodes a row of [`COLUMNS`].
    pub fn read(row: Vec<Cell>) -> Result<Self, StoreError> {
        let (first_position, first_row, received_min, last_position, bytes) = decoded("millrace_rows", row)?;
        Ok(Self { base: RowOriginBase { first_position, first_row, received_min }, last_position, bytes })
    }

    /// Decodes the origins, in the order of positions.
    pub fn origins(&self) -> Result<Vec<RowOrigin>, StoreError> {
        row_origins::decode(self.base, &self.bytes).ok_or_else(|| corrupt_row("millrace_rows"))
    }

    /// Returns whether this entry and `origins` are small enough to share one entry.
    pub fn has_room_for(&self, origins: &[RowOrigin]) -> bool {
        self.bytes.len() + origins.len() <= ROW_ORIGINS_JOINED_MAX
    }

    /// Inserts this entry's origins into `added`, which was recorded later. If both have an origin for one position,
    /// the one in `added` wins.
    pub fn merge_into(&self, added: &mut Vec<RowOrigin>) -> Result<(), StoreError> {
        let known = self.origins()?;
        let is_new =
            |origin: &RowOrigin| added.binary_search_by_key(&origin.position, |new| new.position).is_ok();
        let kept: Vec<RowOrigin> = known.into_iter().filter(|origin| !is_new(origin)).collect();
        added.extend(kept);
        added.sort_unstable_by_key(|origin| origin.position);
        Ok(())
    }
}

/// Encodes `origins` as the values of the table's columns after the first three. The numbers are: first and last
/// position, first and last row, number of rows, earliest and latest time. The bytes are the encoded origins.
/// Returns `None` if `origins` is empty.
pub fn encode(origins: &[RowOrigin]) -> Option<([i64; 7], Vec<u8>)> {
    let (base, last) = (RowOriginBase::of(origins)?, origins.last()?);
    let last_row = origins.iter().map(|origin| origin.row).max()?;
    let received_max = origins.iter().map(|origin| origin.received.0).max()?;
    let numbers = [
        base.first_position as i64,
        last.position as i64,
        base.first_row,
        last_row,
        origins.len() as i64,
        base.received_min.0,
        received_max,
    ];
    Some((numbers, row_origins::encode(base, origins)))
}

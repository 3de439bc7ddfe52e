//! What `millrace_rows` holds: an entry for the rows that one plan added, or for a few small plans; entries of
//! one view and log never overlap. Here is what they are; reading and writing them is each database's own.

use event::Millis;
use event::limits::NOTE_ROWS_JOINED_MAX;

use super::row_origins::{self, RowOrigin, RowOriginBase};
use super::{Cell, StoreError, corrupt_row};

pub struct RowOriginEntry {
    pub base: RowOriginBase,
    pub last_position: u64,
    pub bytes: Vec<u8>,
}

/// As `Entry::columns` has them, without the key before.
pub const COLUMNS: &str = "first_position, first_row, received_min, last_position, places";

impl RowOriginEntry {
    /// A row of `COLUMNS`.
    pub fn read(row: Vec<Cell>) -> Result<Self, StoreError> {
        match <[Cell; 5]>::try_from(row) {
            Ok(
                [
                    Cell::Integer(first),
                    Cell::Integer(first_row),
                    Cell::Integer(received),
                    Cell::Integer(last),
                    Cell::Bytes(bytes),
                ],
            ) => {
                let base =
                    RowOriginBase { first_position: first as u64, first_row, received_min: Millis(received) };
                Ok(Self { base, last_position: last as u64, bytes })
            }
            _ => Err(corrupt_row("millrace_rows")),
        }
    }

    pub fn origins(&self) -> Result<Vec<RowOrigin>, StoreError> {
        row_origins::decode(self.base, &self.bytes).ok_or_else(|| corrupt_row("millrace_rows"))
    }

    /// The places that go, and those that stay.
    pub fn parted(
        &self,
        goes: impl FnMut(&RowOrigin) -> bool,
    ) -> Result<(Vec<RowOrigin>, Vec<RowOrigin>), StoreError> {
        Ok(self.origins()?.into_iter().partition(goes))
    }

    /// Whether the two are so small that they are to share an entry.
    pub fn takes_in(&self, origins: &[RowOrigin]) -> bool {
        self.bytes.len() + origins.len() <= NOTE_ROWS_JOINED_MAX
    }

    /// Its places among others that are noted late; of two for one position the later one holds.
    pub fn mixed(&self, added: &mut Vec<RowOrigin>) -> Result<(), StoreError> {
        let known = self.origins()?;
        let is_new =
            |place: &RowOrigin| added.binary_search_by_key(&place.position, |new| new.position).is_ok();
        let kept: Vec<RowOrigin> = known.into_iter().filter(|place| !is_new(place)).collect();
        added.extend(kept);
        added.sort_unstable_by_key(|place| place.position);
        Ok(())
    }
}

/// What is written for `places`, in the order of the table's columns after its key's first three: first and
/// last position, first and last row, how many, earliest and latest time, the places themselves. `None` where
/// there are none.
pub fn written(origins: &[RowOrigin]) -> Option<([i64; 7], Vec<u8>)> {
    let (base, last) = (RowOriginBase::of(origins)?, origins.last()?);
    let last_row = origins.iter().map(|place| place.row).max()?;
    let received_max = origins.iter().map(|place| place.received.0).max()?;
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

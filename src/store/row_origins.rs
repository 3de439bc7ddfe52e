//! Row origins and their encoding as bytes. An origin is the event's position, the time at which the event was
//! received, and the number of the row that the event made. The store keeps origins for tables without a key. An
//! origin takes one byte in the usual case.

use event::{Millis, put_varint, take_varint};

/// One row, and the event that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowOrigin {
    pub position: u64,
    pub received: Millis,
    pub row: i64,
}

/// The values from which the first origin is encoded as a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowOriginBase {
    pub first_position: u64,
    pub first_row: i64,
    pub received_min: Millis,
}

const ROW_JUMPS: u64 = 1;
const TIME_CHANGES: u64 = 2;

impl RowOriginBase {
    /// Returns the base of `origins`, or `None` if there are none.
    pub fn of(origins: &[RowOrigin]) -> Option<Self> {
        let first = origins.first()?;
        let received_min = origins.iter().map(|origin| origin.received).min()?;
        Some(Self { first_position: first.position, first_row: first.row, received_min })
    }
}

/// Encodes `origins`, which are ordered by position. Each origin is stored as a difference from the one before. The
/// difference contains the row number only if it is not the next one, and the time only if it has changed.
pub fn encode(base: RowOriginBase, origins: &[RowOrigin]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(origins.len() + 8);
    let (mut position, mut row, mut received) = (base.first_position, base.first_row, base.received_min);
    for origin in origins {
        let jumps = if origin.row == row { 0 } else { ROW_JUMPS };
        let changes = if origin.received == received { 0 } else { TIME_CHANGES };
        put_varint(&mut bytes, (origin.position - position) << 2 | jumps | changes);
        if jumps != 0 {
            put_varint(&mut bytes, zigzag(origin.row.wrapping_sub(row)));
        }
        if changes != 0 {
            put_varint(&mut bytes, zigzag(origin.received.0.wrapping_sub(received.0)));
        }
        (position, row, received) = (origin.position, origin.row.wrapping_add(1), origin.received);
    }
    bytes
}

/// Decodes origins, or returns `None` if the bytes are corrupt.
pub fn decode(base: RowOriginBase, mut bytes: &[u8]) -> Option<Vec<RowOrigin>> {
    let mut origins = Vec::with_capacity(bytes.len());
    let (mut position, mut row, mut received) = (base.first_position, base.first_row, base.received_min);
    while !bytes.is_empty() {
        let head = take_varint(&mut bytes)?;
        position = position.checked_add(head >> 2)?;
        if head & ROW_JUMPS != 0 {
            row = row.wrapping_add(unzigzag(take_varint(&mut bytes)?));
        }
        if head & TIME_CHANGES != 0 {
            received = Millis(received.0.wrapping_add(unzigzag(take_varint(&mut bytes)?)));
        }
        origins.push(RowOrigin { position, received, row });
        row = row.wrapping_add(1);
    }
    Some(origins)
}

/// Maps small positive and negative numbers to small unsigned numbers (zigzag encoding).
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn encoded_origins_decode_to_the_same_origins(
            steps in proptest::collection::vec((0_u64..1 << 40, -5_i64..5, proptest::bool::ANY), 1..200),
            first_row: i64,
        ) {
            let mut origin = RowOrigin { position: 0, received: Millis(1_761_991_200_000), row: first_row };
            let origins: Vec<RowOrigin> = steps
                .iter()
                .map(|(further, later, jumps)| {
                    origin.position += further;
                    origin.received.0 += later;
                    origin.row = origin.row.wrapping_add(if *jumps { -7 } else { 1 });
                    origin
                })
                .collect();
            let base = RowOriginBase::of(&origins).expect("origins");
            proptest::prop_assert_eq!(decode(base, &encode(base, &origins)), Some(origins));
        }

        #[test]
        fn any_bytes_are_decoded_or_rejected_without_a_panic(bytes: Vec<u8>) {
            let base = RowOriginBase { first_position: 7, first_row: 7, received_min: Millis(7) };
            let decoded = decode(base, &bytes);
            proptest::prop_assert!(decoded.is_none_or(|origins| origins.len() <= bytes.len()));
        }
    }

    /// Stored bytes must stay readable, so the encoding must never change.
    #[test]
    fn a_usual_origin_takes_one_byte_and_an_unusual_one_a_few_more() {
        let origin = |position, received, row| RowOrigin { position, received: Millis(received), row };
        let origins =
            [origin(10, 1_000, 1), origin(11, 1_000, 2), origin(13, 1_004, 3), origin(14, 1_004, 9)];
        let base = RowOriginBase::of(&origins).expect("origins");
        assert_eq!(encode(base, &origins), [0, 4, 10, 8, 5, 10]);
    }
}

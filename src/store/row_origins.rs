//! Where rows came from, as bytes: for each row an event made, its position, when the event was received
//! and the row's number. A store keeps them beside a table that has no key; a row takes a byte of it.

use event::Millis;

/// One row, and the event that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowOrigin {
    pub position: u64,
    pub received: Millis,
    pub row: i64,
}

/// What the first place is told from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowOriginBase {
    pub first_position: u64,
    pub first_row: i64,
    pub received_min: Millis,
}

const ROW_JUMPS: u64 = 1;
const TIME_CHANGES: u64 = 2;

impl RowOriginBase {
    /// `None` where there are no places.
    pub fn of(origins: &[RowOrigin]) -> Option<Self> {
        let first = origins.first()?;
        let received_min = origins.iter().map(|place| place.received).min()?;
        Some(Self { first_position: first.position, first_row: first.row, received_min })
    }
}

/// `places` in the order of their positions. Each is told from the one before: how much further on it is,
/// and what is not as expected, a row that is not the next one or another time.
pub fn encode(base: RowOriginBase, origins: &[RowOrigin]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(origins.len() + 8);
    let (mut position, mut row, mut received) = (base.first_position, base.first_row, base.received_min);
    for place in origins {
        let jumps = if place.row == row { 0 } else { ROW_JUMPS };
        let changes = if place.received == received { 0 } else { TIME_CHANGES };
        put(&mut bytes, (place.position - position) << 2 | jumps | changes);
        if jumps != 0 {
            put(&mut bytes, folded(place.row.wrapping_sub(row)));
        }
        if changes != 0 {
            put(&mut bytes, folded(place.received.0.wrapping_sub(received.0)));
        }
        (position, row, received) = (place.position, place.row.wrapping_add(1), place.received);
    }
    bytes
}

/// `None` where the bytes are not in this form.
pub fn decode(base: RowOriginBase, mut bytes: &[u8]) -> Option<Vec<RowOrigin>> {
    let mut origins = Vec::with_capacity(bytes.len());
    let (mut position, mut row, mut received) = (base.first_position, base.first_row, base.received_min);
    while !bytes.is_empty() {
        let head = take(&mut bytes)?;
        position = position.checked_add(head >> 2)?;
        if head & ROW_JUMPS != 0 {
            row = row.wrapping_add(unfolded(take(&mut bytes)?));
        }
        if head & TIME_CHANGES != 0 {
            received = Millis(received.0.wrapping_add(unfolded(take(&mut bytes)?)));
        }
        origins.push(RowOrigin { position, received, row });
        row = row.wrapping_add(1);
    }
    Some(origins)
}

/// Small numbers of either sign as small numbers.
fn folded(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unfolded(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read(
            steps in proptest::collection::vec((0_u64..1 << 40, -5_i64..5, proptest::bool::ANY), 1..200),
            first_row: i64,
        ) {
            let mut place = RowOrigin { position: 0, received: Millis(1_761_991_200_000), row: first_row };
            let origins: Vec<RowOrigin> = steps
                .iter()
                .map(|(further, later, jumps)| {
                    place.position += further;
                    place.received.0 += later;
                    place.row = place.row.wrapping_add(if *jumps { -7 } else { 1 });
                    place
                })
                .collect();
            let base = RowOriginBase::of(&origins).expect("places");
            proptest::prop_assert_eq!(decode(base, &encode(base, &origins)), Some(origins));
        }

        #[test]
        fn any_bytes_are_read_or_refused_without_a_panic(bytes: Vec<u8>) {
            let base = RowOriginBase { first_position: 7, first_row: 7, received_min: Millis(7) };
            let read = decode(base, &bytes);
            proptest::prop_assert!(read.is_none_or(|origins| origins.len() <= bytes.len()));
        }
    }

    /// What was written once is read for ever: these bytes must never have to change.
    #[test]
    fn a_row_takes_a_byte_and_what_is_unexpected_a_few_more() {
        let place = |position, received, row| RowOrigin { position, received: Millis(received), row };
        let origins = [place(10, 1_000, 1), place(11, 1_000, 2), place(13, 1_004, 3), place(14, 1_004, 9)];
        let base = RowOriginBase::of(&origins).expect("places");
        assert_eq!(encode(base, &origins), [0, 4, 10, 8, 5, 10]);
    }
}

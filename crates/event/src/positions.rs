//! Encodes a sorted list of positions as the differences between them, each as a variable-length integer.

use super::{put_varint, take_varint};

/// Encodes `positions`, which must be sorted.
pub fn encode(positions: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(positions.len() * 2);
    let mut last = 0;
    for position in positions {
        put_varint(&mut bytes, position - last);
        last = *position;
    }
    bytes
}

/// Decodes a list. Returns `None` if the bytes are not a valid encoding.
pub fn decode(mut bytes: &[u8]) -> Option<Vec<u64>> {
    let (mut positions, mut last) = (Vec::new(), 0_u64);
    while !bytes.is_empty() {
        last = last.checked_add(take_varint(&mut bytes)?)?;
        positions.push(last);
    }
    Some(positions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_list_survives_encoding_and_decoding(mut positions in proptest::collection::vec(0..u64::MAX / 2, 0..50)) {
            positions.sort_unstable();
            prop_assert_eq!(decode(&encode(&positions)), Some(positions));
        }

        #[test]
        fn decoding_any_bytes_does_not_panic(bytes: Vec<u8>) {
            drop(decode(&bytes));
        }
    }
}

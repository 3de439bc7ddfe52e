//! Encodes a sorted list of positions as the differences between them. Each difference is a varint: seven bits per
//! byte, lowest bits first, and the high bit is set in every byte except the last.

/// Encodes `positions`, which must be sorted.
pub fn encode(positions: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(positions.len() * 2);
    let mut last = 0;
    for position in positions {
        let mut gap = position - last;
        while gap >= 0x80 {
            bytes.push(gap as u8 | 0x80);
            gap >>= 7;
        }
        bytes.push(gap as u8);
        last = *position;
    }
    bytes
}

/// Decodes a list. Returns `None` if the bytes are not a valid encoding.
pub fn decode(bytes: &[u8]) -> Option<Vec<u64>> {
    let (mut positions, mut last, mut gap, mut shift) = (Vec::new(), 0_u64, 0_u64, 0);
    for byte in bytes {
        if shift > 63 {
            return None;
        }
        gap |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            last = last.checked_add(gap)?;
            positions.push(last);
            (gap, shift) = (0, 0);
        }
    }
    (shift == 0).then_some(positions)
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

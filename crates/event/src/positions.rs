//! A rising list of positions as bytes: the gaps between them, seven bits a byte, lowest first, the high
//! bit set on all but the last byte of each.

/// `positions` rise.
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

/// `None` where the bytes are no such list.
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
        fn a_list_comes_back_as_it_was(mut positions in proptest::collection::vec(0..u64::MAX / 2, 0..50)) {
            positions.sort_unstable();
            prop_assert_eq!(decode(&encode(&positions)), Some(positions));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            drop(decode(&bytes));
        }
    }
}

//! Variable-length integers: seven bits per byte, lowest bits first, and the high bit is set in every byte except the
//! last.

pub fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Takes an integer from the front of the bytes. Returns `None` if they end within it, or if it is too long.
pub fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
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
        fn an_integer_survives_encoding_and_decoding(value: u64, after: u8) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            bytes.push(after);
            let mut rest = bytes.as_slice();
            proptest::prop_assert_eq!(take_varint(&mut rest), Some(value));
            proptest::prop_assert_eq!(rest, [after]);
        }
    }

    #[test]
    fn an_incomplete_or_overlong_integer_is_refused() {
        assert_eq!(take_varint(&mut [0x80_u8].as_slice()), None);
        assert_eq!(take_varint(&mut [0xff_u8; 11].as_slice()), None);
    }
}

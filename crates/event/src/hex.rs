//! Hexadecimal text.

use std::fmt::Write;

/// Returns the bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
    }
    text
}

/// Decodes hexadecimal digits of either case. Returns `None` for any other text, and for a text of another length.
pub fn from_hex<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * BYTES {
        return None;
    }
    let mut bytes = [0; BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value_of(pair[0])? << 4 | value_of(pair[1])?;
    }
    Some(bytes)
}

fn value_of(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_hex_and_back() {
        let bytes: [u8; 256] = std::array::from_fn(|byte| byte as u8);
        assert_eq!(from_hex(&hex(&bytes)), Some(bytes));
        assert_eq!(from_hex(&hex(&bytes).to_uppercase()), Some(bytes));
        assert_eq!(from_hex(""), Some([]));
    }

    #[test]
    fn only_two_digits_for_each_byte_are_decoded() {
        for text in ["", "0", "000", "00000", "+1ff", "ff+1", "-1ff", " 1ff", "0x12", "gg00", "é00"] {
            assert_eq!(from_hex::<2>(text), None, "{text}");
        }
        assert_eq!(from_hex("01fF"), Some([1, 255]));
    }
}

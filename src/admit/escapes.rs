//! Escapes of addresses and header values: `%C3%A9` is the two bytes of an é.

/// What is no escape stays as it is.
pub fn unescaped(text: &str) -> Vec<u8> {
    let mut parts = text.split('%');
    let mut bytes: Vec<u8> = parts.next().unwrap_or_default().into();
    for part in parts {
        let digits = part.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend_from_slice(&part.as_bytes()[2..]);
            }
            None => {
                bytes.push(b'%');
                bytes.extend_from_slice(part.as_bytes());
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_bytes_and_what_is_none_stays() {
        for (text, bytes) in [
            ("a%2Fb", &b"a/b"[..]),
            ("%C3%a9", "é".as_bytes()),
            ("%ff", b"\xff"),
            ("100%", b"100%"),
            ("%zz%2", b"%zz%2"),
            ("%+1", b"%+1"),
            ("%%41", b"%A"),
            ("%é", "%é".as_bytes()),
        ] {
            assert_eq!(unescaped(text), bytes, "{text}");
        }
    }
}

//! Escapes of URLs and header values: `%C3%A9` is the two bytes of an é.

use std::fmt::Write;

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

/// The text of a URL's part, in which each `%` is an escape.
pub fn part_of_url(text: &str) -> Option<String> {
    let bytes = unescaped(text);
    let escapes = text.bytes().filter(|byte| *byte == b'%').count();
    (bytes.len() + 2 * escapes == text.len()).then(|| String::from_utf8(bytes).ok()).flatten()
}

/// As a part of a URL has to be written.
pub fn as_part_of_url(text: &str) -> String {
    let mut part = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'-' | b'.' | b'_' | b'~' => part.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => part.push(char::from(byte)),
            _ => write!(part, "%{byte:02X}").expect("a String takes all"),
        }
    }
    part
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
    #[test]
    fn a_part_of_a_url_is_the_same_once_it_is_written_and_read() {
        for text in ["", "plain", "p@ss:/w?#", "é %41", "\u{0}😀"] {
            assert_eq!(part_of_url(&as_part_of_url(text)).as_deref(), Some(text));
        }
        assert_eq!(as_part_of_url("a b/é"), "a%20b%2F%C3%A9");
        for wrong in ["100%", "%zz", "%4", "%ff", "a%%41"] {
            assert_eq!(part_of_url(wrong), None, "{wrong}");
        }
    }
}

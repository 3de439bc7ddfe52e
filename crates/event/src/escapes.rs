//! Percent-encoding of URLs and header values: `%C3%A9` stands for the two bytes of an é.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// All characters but the unreserved ones of RFC 3986.
const RESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Decodes all valid escapes. Other text, such as a single `%`, is copied unchanged.
pub fn percent_decode(text: &str) -> Vec<u8> {
    percent_decode_str(text).collect()
}

/// Decodes a part of a URL. Returns `None` if a `%` does not begin an escape or the result is not UTF-8.
pub fn percent_decode_strict(text: &str) -> Option<String> {
    let bytes = percent_decode(text);
    let escapes = text.bytes().filter(|byte| *byte == b'%').count();
    (bytes.len() + 2 * escapes == text.len()).then(|| String::from_utf8(bytes).ok()).flatten()
}

/// Encodes a text for use as a part of a URL.
pub fn percent_encode(text: &str) -> String {
    utf8_percent_encode(text, &RESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_escapes_are_decoded_and_other_text_is_kept() {
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
            assert_eq!(percent_decode(text), bytes, "{text}");
        }
    }
    #[test]
    fn an_encoded_text_is_decoded_again_and_a_bad_escape_is_refused() {
        for text in ["", "plain", "p@ss:/w?#", "é %41", "\u{0}😀"] {
            assert_eq!(percent_decode_strict(&percent_encode(text)).as_deref(), Some(text));
        }
        assert_eq!(percent_encode("a b/é"), "a%20b%2F%C3%A9");
        for wrong in ["100%", "%zz", "%4", "%ff", "a%%41"] {
            assert_eq!(percent_decode_strict(wrong), None, "{wrong}");
        }
    }
}

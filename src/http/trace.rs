//! The W3C trace context of a request, from its `traceparent` header. An invalid header counts as missing.

use axum::http::{HeaderMap, HeaderName};

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Returns version, trace id, parent id and flags, without fields that later versions add.
pub fn traceparent(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(&TRACEPARENT)?;
    let once = headers.get_all(&TRACEPARENT).iter().nth(1).is_none();
    valid(value.to_str().ok()?).filter(|_| once)
}

fn valid(text: &str) -> Option<&str> {
    let known = text.get(..55)?;
    // A dash separates the fields that later versions add.
    let more = text.as_bytes().get(55);
    let version_fits = match &text[..2] {
        "ff" => false,
        "00" => more.is_none(),
        _ => more.is_none_or(|byte| *byte == b'-'),
    };
    let mut parts = known.split('-');
    let lengths =
        [2, 32, 16, 2].into_iter().all(|length| parts.next().is_some_and(|part| is_hex(part, length)));
    let nonzero = |range: std::ops::Range<usize>| known.as_bytes()[range].iter().any(|digit| *digit != b'0');
    let complete = version_fits && lengths && parts.next().is_none();
    (complete && nonzero(3..35) && nonzero(36..52)).then_some(known)
}

fn is_hex(part: &str, length: usize) -> bool {
    part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_valid_traceparent_is_kept_and_an_invalid_one_counts_as_missing() {
        assert_eq!(valid(GOOD), Some(GOOD));
        let later = GOOD.replacen("00", "cc", 1);
        assert_eq!(valid(&later), Some(later.as_str()));
        assert_eq!(valid(&format!("{later}-what-comes-later")), Some(later.as_str()));
        for wrong in [
            "",
            &GOOD[..54],
            &format!("{GOOD}-"),
            &format!("{GOOD}0"),
            &format!("{later}."),
            &GOOD.to_uppercase(),
            &GOOD.replacen("00", "ff", 1),
            &GOOD.replacen("00", "0g", 1),
            &GOOD.replace('-', "_"),
            &GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &GOOD.replace("-00f067aa0ba902b7-", "0-0f067aa0ba902b7-"),
            &GOOD.replace("4bf9", "4bé"),
            &format!(" {GOOD}"),
        ] {
            assert_eq!(valid(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn two_headers_count_as_missing() {
        let mut headers = HeaderMap::new();
        assert_eq!(traceparent(&headers), None);
        headers.append("traceparent", GOOD.parse().expect("a value"));
        assert_eq!(traceparent(&headers), Some(GOOD));
        headers.append("traceparent", GOOD.parse().expect("a value"));
        assert_eq!(traceparent(&headers), None);
    }
}

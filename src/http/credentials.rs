//! The keys that a request presents: `Authorization: <key>`, `Authorization: Bearer <key>` or `X-API-Key: <key>`.

use axum::http::{HeaderMap, header};

use crate::admission::Credentials;

/// Reads both headers. An empty header counts as missing.
pub fn credentials(headers: &HeaderMap) -> Credentials<'_> {
    let mut unreadable = false;
    let literals = [headers.get(header::AUTHORIZATION), headers.get("x-api-key")].map(|value| {
        let Ok(text) = value?.to_str() else {
            unreadable = true;
            return None;
        };
        literal_key(text)
    });
    Credentials { literals, unreadable }
}

/// Returns the key in a text that is the bare key, or the key after `Bearer`.
pub fn literal_key(text: &str) -> Option<&str> {
    let text = text.trim();
    let literal = match text.split_once(' ') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => rest.trim(),
        _ => text,
    };
    Some(literal).filter(|literal| !literal.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_bare_as_bearer_and_from_its_own_header() {
        let presented = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().expect("a value"));
            credentials(&headers).literals.into_iter().flatten().map(str::to_owned).collect::<Vec<_>>()
        };
        for (name, value) in [
            ("authorization", "secret"),
            ("authorization", "Bearer secret"),
            ("authorization", "bearer  secret"),
            ("x-api-key", " secret"),
        ] {
            assert_eq!(presented(name, value), ["secret"], "{name}: {value}");
        }
        assert_eq!(presented("authorization", ""), Vec::<String>::new());
        assert_eq!(presented("authorization", "Basic c2VjcmV0"), ["Basic c2VjcmV0"]);
    }

    #[test]
    fn a_key_that_is_not_text_counts_as_presented() {
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", axum::http::HeaderValue::from_bytes(b"\xff").expect("a value"));
        assert!(credentials(&headers).unreadable);
    }
}

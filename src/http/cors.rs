//! Pages of other sites that a door lets send, by their origins, and what browsers are told about it
//! (CORS): they ask before they send, and show a page only the answers that it may see.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// The origins that a door names. Without any, no page of another site may send.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    named: Vec<String>,
    all: bool,
}

/// A page that may send.
pub struct AllowedPage {
    origin: HeaderValue,
    /// Whether it may send what a browser adds by itself. `sendBeacon` always does.
    credentials: bool,
}

const METHODS: &str = "POST";
const HEADERS: &str =
    "Content-Type, Content-Encoding, Authorization, X-API-Key, Idempotency-Key, traceparent";
const PREFLIGHT_SECONDS_MAX: &str = "7200";

impl Origins {
    pub fn new(origins: &[String]) -> Self {
        let (all, named): (Vec<_>, Vec<_>) = origins.iter().cloned().partition(|origin| origin == "*");
        Self { named, all: !all.is_empty() }
    }

    pub fn is_empty(&self) -> bool {
        self.named.is_empty() && !self.all
    }

    /// The page that sends this, if it says which it is and may.
    pub fn allowed(&self, headers: &HeaderMap) -> Option<AllowedPage> {
        let origin = headers.get(header::ORIGIN)?;
        let credentials =
            self.named.iter().any(|named| origin.as_bytes().eq_ignore_ascii_case(named.as_bytes()));
        (credentials || self.all).then(|| AllowedPage {
            origin: if credentials { origin.clone() } else { HeaderValue::from_static("*") },
            credentials,
        })
    }
}

impl AllowedPage {
    /// Says in an answer, a refusal too, that this page may see it.
    pub fn may_see(&self, mut answer: Response) -> Response {
        let headers = answer.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, self.origin.clone());
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Retry-After"));
        if self.credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        answer
    }

    /// The answer to a browser that asks first.
    pub fn preflight(&self) -> Response {
        let may = [
            (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS),
            (header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS_MAX),
        ];
        (StatusCode::NO_CONTENT, may).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_named_pages_may_send_and_only_they_with_credentials() {
        let seen = |origins: &[&str], origin: &'static str| {
            let origins: Vec<String> = origins.iter().map(|&origin| origin.to_owned()).collect();
            let headers = HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static(origin))]);
            let page = Origins::new(&origins).allowed(&headers)?;
            Some((page.origin.to_str().expect("plain").to_owned(), page.credentials))
        };
        let shop = "https://shop.example";
        assert_eq!(seen(&[shop, "null"], shop), Some((shop.to_owned(), true)));
        assert_eq!(seen(&[shop, "null"], "null"), Some(("null".to_owned(), true)));
        assert_eq!(seen(&["*"], shop), Some(("*".to_owned(), false)));
        assert_eq!(seen(&["*", shop], shop), Some((shop.to_owned(), true)));
        for other in
            ["https://shop.example.evil", "http://shop.example", "https://shop.example:8443", "null", ""]
        {
            assert_eq!(seen(&[shop], other), None, "{other}");
        }
        assert_eq!(seen(&[], shop), None);
        assert!(Origins::new(&["*".to_owned()]).allowed(&HeaderMap::new()).is_none());
    }
}

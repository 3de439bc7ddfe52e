//! CORS: the web pages of other sites that a source or read allows, by their origins. Browsers ask before such a page
//! sends a request, and let it read only the answers that it may see.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// The origins that a source or read lists. If there are none, no page of another site may send.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    named: Vec<String>,
    all: bool,
}

/// A page that may send.
pub struct AllowedPage {
    origin: HeaderValue,
    /// The page may send credentials that a browser adds itself. `sendBeacon` always sends them.
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

    /// Returns the page that sends the request; `None` if it is not named or not allowed.
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
    /// Adds the headers that let this page read the answer, which may be a refusal.
    pub fn add_headers(&self, mut answer: Response) -> Response {
        let headers = answer.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, self.origin.clone());
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Retry-After"));
        if self.credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        answer
    }

    /// Returns the answer to a preflight.
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

//! CORS: the web pages of other sites that a source or read allows, by their origins. Browsers ask before such a page
//! sends a request, and let it read only the answers that it may see.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

/// The origins that a source or read lists: `https://shop.example`, `null` for a page that was opened from disk, `*` for
/// all. If there are none, no page of another site may send.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
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

const METHODS: &str = "GET, POST";
/// The headers of an answer that a page may read.
const EXPOSED: &str = "Idempotent-Replayed, Retry-After, WWW-Authenticate";
const HEADERS: &str =
    "Content-Type, Content-Encoding, Authorization, X-API-Key, Idempotency-Key, Last-Event-ID, traceparent";
const PREFLIGHT_SECONDS_MAX: &str = "7200";

impl TryFrom<Vec<String>> for Origins {
    type Error = String;

    fn try_from(texts: Vec<String>) -> Result<Self, String> {
        let mut origins = Self::default();
        for text in texts {
            let origin = checked_origin(&text);
            origins.add(
                origin.ok_or_else(|| format!("`{text}` is not an origin such as `https://shop.example`"))?,
            );
        }
        Ok(origins)
    }
}

impl Origins {
    /// Adds an origin that is checked already.
    pub fn add(&mut self, origin: String) {
        if origin == "*" {
            self.all = true;
        } else {
            self.named.push(origin);
        }
    }

    /// Adds the origins of another list.
    pub fn extend(&mut self, others: &Self) {
        self.named.extend(others.named.iter().cloned());
        self.all |= others.all;
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
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
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

/// Returns an origin in lower case, as browsers write it. Returns `None` if the text is not an origin.
pub fn checked_origin(text: &str) -> Option<String> {
    let text = text.trim().to_ascii_lowercase();
    if text == "null" || text == "*" {
        return Some(text);
    }
    let (scheme, host) = text.split_once("://")?;
    let is_scheme = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    (is_scheme(scheme) && !host.is_empty() && host.bytes().all(plain)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_named_pages_may_send_and_only_they_with_credentials() {
        let seen = |origins: &[&str], origin: &'static str| {
            let origins: Vec<String> = origins.iter().map(|&origin| origin.to_owned()).collect();
            let origins = Origins::try_from(origins).expect("valid");
            let headers = HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static(origin))]);
            let page = origins.allowed(&headers)?;
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
        let all = Origins::try_from(vec!["*".to_owned()]).expect("valid");
        assert!(all.allowed(&HeaderMap::new()).is_none());
    }

    #[test]
    fn an_origin_is_a_scheme_and_a_host_and_nothing_else() {
        for good in ["https://shop.example", "http://localhost:3000", "http://[::1]:80", "null", "*"] {
            assert_eq!(checked_origin(good).as_deref(), Some(good));
        }
        assert_eq!(checked_origin(" HTTPS://Shop.Example ").as_deref(), Some("https://shop.example"));
        for bad in [
            "",
            "shop.example",
            "https://",
            "https://shop.example/",
            "https://a.b/c",
            "https://*.a.b",
            "a b://c",
        ] {
            assert_eq!(checked_origin(bad), None, "{bad}");
        }
    }
}

//! What is looked at before any route: the name that a request calls us by, the page it comes from, and
//! whether its path is text. A refusal here has the shape of the contract whose path it is.

use axum::body::Body;
use axum::http::Request;
use axum::response::Response;

use crate::admit::{Refusal, foreign_page, known_host};
use crate::config::Access;

/// Which requests come in at all.
pub struct Doorway {
    pub hosts: Vec<String>,
    pub contracts: Vec<ContractPath>,
}

/// A path, or all that begin like it, where clients of another service's contract are answered.
pub struct ContractPath {
    begins: String,
    whole: bool,
    error_key: String,
    /// Whether it asks for no key: then pages of other sites may use it, too.
    open: bool,
}

impl ContractPath {
    /// `pattern` as routes are written.
    pub fn new(pattern: &str, error_key: &str, access: Access) -> Self {
        let (begins, whole) = match pattern.find('{') {
            Some(at) => (&pattern[..at], false),
            None => (pattern, true),
        };
        let open = access == Access::Open;
        Self { begins: begins.to_owned(), whole, error_key: error_key.to_owned(), open }
    }

    fn is_at(&self, path: &str) -> bool {
        if self.whole { path == self.begins } else { path.starts_with(&self.begins) }
    }
}

impl Doorway {
    pub fn admit(&self, request: &Request<Body>) -> Result<(), Refusal> {
        let (headers, path) = (request.headers(), request.uri().path());
        known_host(headers, request.version(), &self.hosts).map_err(Refusal::UnknownHost)?;
        if !is_utf8(path) {
            return Err(Refusal::Parameter { name: "path", reason: "is not valid UTF-8".to_owned() });
        }
        match foreign_page(headers, &self.hosts) && !self.contract(path).is_some_and(|contract| contract.open)
        {
            true => Err(Refusal::ForeignPage),
            false => Ok(()),
        }
    }

    /// In the shape that clients of this path know.
    pub fn refuse(&self, path: &str, refusal: &Refusal) -> Response {
        match self.contract(path) {
            Some(contract) => refusal.in_key(&contract.error_key),
            None => refusal.as_problem(),
        }
    }

    fn contract(&self, path: &str) -> Option<&ContractPath> {
        self.contracts.iter().find(|contract| contract.is_at(path))
    }
}

/// Whether a path is text once its escapes are resolved, as every handler takes it to be.
fn is_utf8(path: &str) -> bool {
    let mut parts = path.split('%');
    let mut bytes: Vec<u8> = parts.next().unwrap_or_default().into();
    for part in parts {
        let byte = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.extend(byte);
        bytes.extend_from_slice(&part.as_bytes()[if byte.is_some() { 2 } else { 0 }..]);
    }
    std::str::from_utf8(&bytes).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_text_or_not() {
        for good in ["/", "/a%2Fb", "/%C3%A9", "/100%", "/%zz%2", "/é"] {
            assert!(is_utf8(good), "{good}");
        }
        for bad in ["/%FF", "/%C3", "/%C3a%A9"] {
            assert!(!is_utf8(bad), "{bad}");
        }
    }
}

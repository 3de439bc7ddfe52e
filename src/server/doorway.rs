//! What is looked at before any route: the name that a request calls us by, the page it comes from,
//! whether its path is text, and how often its sender asks. A refusal here has the shape of the contract
//! whose path it is.

use std::net::IpAddr;

use axum::body::Body;
use axum::http::{HeaderMap, Request};
use axum::response::Response;

use crate::admit::{Keys, Peer, RateLimits, Refusal, foreign_page, known_host, origin};
use crate::config::Network;

/// Which requests come in at all.
pub struct Doorway {
    pub hosts: Vec<String>,
    /// Whether contract 1 asks for no key: then pages of other sites may use it, too.
    pub contract_open: bool,
    pub trusted_proxies: Vec<Network>,
    pub rates: RateLimits,
    pub keys: Keys,
}

/// Whoever watches a server must not be kept from it by those who use it.
const UNCOUNTED: [&str; 3] = ["/health", "/ready", "/metrics"];

impl Doorway {
    /// Whom the request is from.
    pub fn admit(&self, connected: IpAddr, request: &Request<Body>) -> Result<Peer, Refusal> {
        let (headers, path) = (request.headers(), request.uri().path());
        known_host(headers, request.version(), &self.hosts).map_err(Refusal::UnknownHost)?;
        if !is_utf8(path) {
            return Err(Refusal::Parameter { name: "path", reason: "is not valid UTF-8".to_owned() });
        }
        match foreign_page(headers, &self.hosts) && !(self.contract_open && is_contract(path)) {
            true => Err(Refusal::ForeignPage),
            false => self.counted(connected, headers, path),
        }
    }

    fn counted(&self, connected: IpAddr, headers: &HeaderMap, path: &str) -> Result<Peer, Refusal> {
        let from = origin(connected, headers, &self.trusted_proxies);
        if !UNCOUNTED.contains(&path) {
            self.rates.ask_by_address(from)?;
            self.rates.ask_by_key(&self.keys, headers)?;
        }
        Ok(Peer(from))
    }
}

/// In the shape that clients of this path know.
pub fn refuse(path: &str, refusal: &Refusal) -> Response {
    if is_contract(path) { refusal.in_key("error") } else { refusal.as_problem() }
}

fn is_contract(path: &str) -> bool {
    path == "/liveEvent" || path.starts_with("/userEvents/")
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

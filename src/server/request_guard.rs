//! What is looked at before any route: the name that a request calls us by, the page it comes from,
//! whether its address is text, and how often its sender asks. A refusal here has the shape of the contract
//! whose path it is.

use std::net::IpAddr;

use axum::http::{HeaderMap, Method, Request, header};
use axum::response::{IntoResponse, Response};
use event::unescaped;

use super::Settings;
use super::route_policy::RoutePolicies;
use crate::admission::Keys;
use crate::config::Network;
use crate::http::ApiError;
use crate::http::{AllowedPage, Peer, RateLimits, body, foreign_page, known_host, origin};

/// Which requests come in at all.
pub struct RequestGuard {
    hosts: Vec<String>,
    /// Where clients of a contract are answered.
    policies: RoutePolicies,
    trusted_proxies: Vec<Network>,
    rates: RateLimits,
    keys: Keys,
}

/// Whoever watches a server must not be kept from it by those who use it.
const UNCOUNTED: [&str; 3] = ["/health", "/ready", "/metrics"];

impl RequestGuard {
    pub fn new(settings: &Settings, keys: &Keys) -> Self {
        Self {
            hosts: settings.config.hosts.clone(),
            policies: RoutePolicies::of(settings),
            trusted_proxies: settings.config.trusted_proxies.clone(),
            rates: RateLimits::new(settings.config.limits),
            keys: keys.clone(),
        }
    }

    /// Whom the request is from. `page` is one of another site that may send this.
    pub fn admit<B>(
        &self,
        connected: IpAddr,
        request: &Request<B>,
        page: Option<&AllowedPage>,
    ) -> Result<Peer, ApiError> {
        let (headers, path) = (request.headers(), request.uri().path());
        known_host(request, &self.hosts)?;
        body::plain_framing(headers)?;
        for (name, text) in [("path", path), ("query", request.uri().query().unwrap_or_default())] {
            if let Some(fault) = fault(text) {
                return Err(ApiError::Parameter { name, reason: fault.to_owned() });
            }
        }
        match page.is_none() && foreign_page(headers, &self.hosts) {
            true => Err(ApiError::ForeignPage),
            false => self.counted(connected, headers, path),
        }
    }

    /// The page of another site that sends this to a door, or asks a read, which names it.
    pub fn allowed_page(&self, headers: &HeaderMap, path: &str) -> Option<AllowedPage> {
        // Most requests are programs', and are done with by this.
        headers.get(header::ORIGIN)?;
        self.policies.at(path)?.origins.allowed(headers)
    }

    /// In the shape that clients of this path know.
    pub fn refuse(&self, path: &str, error: ApiError) -> Response {
        match self.policies.at(path) {
            Some(policy) => error.in_words(&policy.wording),
            None => error.into_response(),
        }
    }

    fn counted(&self, connected: IpAddr, headers: &HeaderMap, path: &str) -> Result<Peer, ApiError> {
        let from = origin(connected, headers, &self.trusted_proxies);
        if !UNCOUNTED.contains(&path) {
            self.rates.ask_by_address(from)?;
            self.rates.ask_by_key(&self.keys, headers)?;
        }
        Ok(Peer(from))
    }
}

/// Whether a browser asks if its page may send something.
pub fn is_preflight<B>(request: &Request<B>) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// What keeps a path or query from being text, as every handler takes it to be, once its escapes are resolved;
/// no database finds what holds U+0000, and not each of them says so.
fn fault(text: &str) -> Option<&'static str> {
    if !text.contains('%') {
        return None;
    }
    match std::str::from_utf8(&unescaped(text)) {
        Ok(text) if text.contains('\0') => Some("holds the character U+0000"),
        Ok(_) => None,
        Err(_) => Some("is not valid UTF-8"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_text_or_not() {
        for good in ["/", "/a%2Fb", "/%C3%A9", "/100%", "/%zz%2", "/é"] {
            assert_eq!(fault(good), None, "{good}");
        }
        for bad in ["/%FF", "/%C3", "/%C3a%A9", "/a%00b"] {
            assert!(fault(bad).is_some(), "{bad}");
        }
    }
}

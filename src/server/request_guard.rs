//! Checks before any route: the host name, the web page that sends the request, the text of path and query, and the
//! request rate of the sender. A refusal has the form of the contract whose path it is.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::{HeaderMap, Method, Request, header};
use axum::response::{IntoResponse, Response};
use event::percent_decode;

use super::route_policy::RoutePolicies;
use crate::admission::Keys;
use crate::config::Config;
use crate::http::{
    AllowedPage, ApiError, Network, Peer, RateLimits, body, client_address, foreign_page, known_host,
};

/// Decides which requests are handled at all.
pub struct RequestGuard {
    hosts: Vec<String>,
    /// The policies of the paths of contracts.
    policies: RoutePolicies,
    trusted_proxies: Vec<Network>,
    rates: Arc<RateLimits>,
    keys: Keys,
}

/// Paths without a request rate: monitoring must work even if clients use up their rates.
const UNLIMITED: [&str; 3] = ["/health", "/ready", "/metrics"];

impl RequestGuard {
    pub fn new(config: &Config, keys: &Keys, rates: &Arc<RateLimits>) -> Self {
        Self {
            hosts: config.hosts.clone(),
            policies: RoutePolicies::of(config),
            trusted_proxies: config.trusted_proxies.clone(),
            rates: Arc::clone(rates),
            keys: keys.clone(),
        }
    }

    /// Checks a request and returns its sender. `page` is the page of another site that sends it, if that page may.
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
            if let Some(reason) = invalid_text(text) {
                return Err(ApiError::Parameter { name, reason: reason.to_owned() });
            }
        }
        if page.is_none() && foreign_page(headers, &self.hosts) {
            Err(ApiError::ForeignPage)
        } else {
            self.check_rates(connected, headers, path)
        }
    }

    /// Returns the page of another site that sends the request, if the source or read at this path allows it.
    pub fn allowed_page(&self, headers: &HeaderMap, path: &str) -> Option<AllowedPage> {
        // Most requests come from programs, which send no `Origin`.
        headers.get(header::ORIGIN)?;
        self.policies.of_path(path)?.origins.allowed(headers)
    }

    /// Returns a refusal in the form of the contract at this path.
    pub fn refuse(&self, path: &str, error: ApiError) -> Response {
        match self.policies.of_path(path).and_then(|policy| policy.wording.as_ref()) {
            Some(wording) => error.in_words(wording),
            None => error.into_response(),
        }
    }

    fn check_rates(&self, connected: IpAddr, headers: &HeaderMap, path: &str) -> Result<Peer, ApiError> {
        let address = client_address(connected, headers, &self.trusted_proxies);
        let counts_itself = self.policies.of_path(path).is_some_and(|policy| policy.counts_itself);
        if !UNLIMITED.contains(&path) && !counts_itself {
            self.rates.count_address(address)?;
            self.rates.count_key(&self.keys, headers)?;
        }
        Ok(Peer(address))
    }
}

/// Returns whether this is a CORS preflight: a browser asks whether a page may send a request.
pub fn is_preflight<B>(request: &Request<B>) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Returns why a decoded path or query is not text, which every handler expects it to be. U+0000 is refused because
/// no database finds text with it, and not every database reports that.
fn invalid_text(text: &str) -> Option<&'static str> {
    if !text.contains('%') {
        return None;
    }
    match std::str::from_utf8(&percent_decode(text)) {
        Ok(text) if text.contains('\0') => Some("contains the character U+0000"),
        Ok(_) => None,
        Err(_) => Some("is not valid UTF-8"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_text_is_invalid() {
        for good in ["/", "/a%2Fb", "/%C3%A9", "/100%", "/%zz%2", "/é"] {
            assert_eq!(invalid_text(good), None, "{good}");
        }
        for bad in ["/%FF", "/%C3", "/%C3a%A9", "/a%00b"] {
            assert!(invalid_text(bad).is_some(), "{bad}");
        }
    }
}

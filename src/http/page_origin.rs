//! The sender of a request: its address, the host name that it uses, and the web page that it comes from.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::{HeaderMap, Request, Version, header};
use event::{SentFrom, cut_user_agent};

use super::forwarded::{hops_of_forwarded, hops_of_x_forwarded_for};
use super::{ApiError, Network};

/// The sender's address, which the server adds to each request: the other end of the connection, or the address that
/// a trusted proxy reports.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// Returns what a request tells about its sender.
pub fn sent_from(peer: Peer, headers: &HeaderMap) -> SentFrom<'_> {
    let user_agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    SentFrom { address: Some(peer.0), client: None, user_agent: user_agent.and_then(cut_user_agent) }
}

/// Returns the sender's address: the peer, or the address that trusted proxies report. Only entries of trusted
/// proxies count, so that a client cannot forge its address.
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted_proxies: &[Network]) -> IpAddr {
    let peer = peer.to_canonical();
    let trusted = |address: IpAddr| trusted_proxies.iter().any(|network| network.contains(address));
    if !trusted(peer) {
        return peer;
    }
    match (headers.contains_key("forwarded"), headers.contains_key("x-forwarded-for")) {
        (true, false) => first_untrusted(peer, hops_of_forwarded(headers), trusted),
        (false, _) => first_untrusted(peer, hops_of_x_forwarded_for(headers), trusted),
        // A proxy that writes one of the headers may pass on a forged other one, and the server does not know which
        // it writes. So they count only if they agree.
        (true, true) => {
            let one = first_untrusted(peer, hops_of_forwarded(headers), trusted);
            let other = first_untrusted(peer, hops_of_x_forwarded_for(headers), trusted);
            if one == other { one } else { peer }
        }
    }
}

/// Follows the hops while the current address is trusted, and returns the first one that is not.
fn first_untrusted(
    peer: IpAddr,
    hops: impl Iterator<Item = Option<IpAddr>>,
    trusted: impl Fn(IpAddr) -> bool,
) -> IpAddr {
    let mut address = peer;
    for hop in hops {
        match hop {
            Some(before) if trusted(address) => address = before.to_canonical(),
            _ => break,
        }
    }
    address
}

/// Fails if the request uses a host name that is not one of this server's. A page that rebinds its own name to the
/// server's address (DNS rebinding) still sends that name; IP addresses cannot be rebound. A host that two programs
/// could read differently is refused.
pub fn known_host<B>(request: &Request<B>, hosts: &[String]) -> Result<(), ApiError> {
    let wrong = |reason: &str| ApiError::Parameter { name: "Host", reason: reason.to_owned() };
    let mut lines = request.headers().get_all(header::HOST).iter();
    let (first, second) = (lines.next(), lines.next());
    if second.is_some() {
        return Err(wrong("is given more than once"));
    }
    let asked = match (request.uri().authority(), first) {
        (_, None) if request.version() >= Version::HTTP_11 => return Err(wrong("is missing")),
        // An absolute URI wins over the `Host` header.
        (Some(authority), _) => authority.as_str(),
        (None, Some(host)) => host.to_str().map_err(|_| wrong("is not a host name"))?,
        (None, None) => return Ok(()),
    };
    let name = host_name(asked).ok_or_else(|| wrong("is not a host name with an optional port"))?;
    let known = name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok()
        || hosts.iter().any(|known| known.eq_ignore_ascii_case(name));
    if known { Ok(()) } else { Err(ApiError::UnknownHost(name.chars().take(100).collect())) }
}

/// Parses `name`, `name:port`, `[address]` or `[address]:port`, and returns it without the port.
fn host_name(text: &str) -> Option<&str> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            (address, port)
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:~%".contains(c);
    let valid = !name.is_empty() && name.chars().all(plain);
    let port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    (valid && port).then_some(name)
}

/// Returns whether this is a port. It may be empty after the colon.
fn is_port(text: &str) -> bool {
    text.is_empty() || (text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok())
}

/// Returns whether a browser reports that a page of another site sends the request. Browsers send some requests
/// without a preflight, and with `--dev` they need no key. Other programs do not send these headers.
pub fn foreign_page(headers: &HeaderMap, hosts: &[String]) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if text("sec-fetch-site").is_some_and(|site| site.eq_ignore_ascii_case("cross-site")) {
        return true;
    }
    let Some(origin) = text("origin") else { return false };
    let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
    let name = authority.rsplit_once(':').map_or(authority, |(name, _)| name);
    let asked = text("host").unwrap_or_default();
    let same_site = !authority.is_empty()
        && (authority.eq_ignore_ascii_case(asked)
            || hosts.iter().any(|host| host.eq_ignore_ascii_case(name)));
    !same_site
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().expect("a value"));
        headers
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn networks(texts: &[&str]) -> Vec<Network> {
        texts.iter().map(|text| Network::try_from((*text).to_owned()).expect("a network")).collect()
    }

    #[test]
    fn forwarded_addresses_count_only_from_trusted_proxies() {
        let trusted = networks(&["10.0.0.0/30", "fd00::/8"]);
        for (name, value) in [
            ("x-forwarded-for", "6.6.6.6, 1.2.3.4, 10.0.0.2"),
            ("x-forwarded-for", "6.6.6.6,1.2.3.4:999,[fd00::7]:1,10.0.0.2"),
            ("forwarded", "for=6.6.6.6, for=1.2.3.4;proto=https, for=10.0.0.2"),
            ("forwarded", "for=6.6.6.6, for=\"1.2.3.4:999\", for=\"[fd00::7]\", for=10.0.0.2"),
        ] {
            let forwarded = headers(name, value);
            assert_eq!(client_address(ip("10.0.0.1"), &forwarded, &trusted), ip("1.2.3.4"), "{value}");
            assert_eq!(client_address(ip("::ffff:10.0.0.1"), &forwarded, &trusted), ip("1.2.3.4"), "{value}");
            assert_eq!(client_address(ip("fd00::1"), &forwarded, &trusted), ip("1.2.3.4"), "{value}");
            assert_eq!(client_address(ip("10.0.0.9"), &forwarded, &trusted), ip("10.0.0.9"), "{value}");
            assert_eq!(client_address(ip("10.0.0.1"), &forwarded, &[]), ip("10.0.0.1"), "{value}");
        }
    }

    #[test]
    fn unreadable_or_contradictory_forwarded_addresses_do_not_count() {
        let trusted = networks(&["10.0.0.0/8"]);
        let of = |lines: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, value.parse().expect("a value"));
            }
            client_address(ip("10.0.0.1"), &headers, &trusted).to_string()
        };
        assert_eq!(of(&[]), "10.0.0.1");
        assert_eq!(of(&[("x-forwarded-for", "1.2.3.4, unknown, 10.0.0.2")]), "10.0.0.2");
        assert_eq!(of(&[("forwarded", "for=1.2.3.4, for=_x")]), "10.0.0.1");
        // The client sends an unclosed quote to hide the entry that the proxy appends.
        assert_eq!(of(&[("forwarded", "for=6.6.6.6;x=\", for=1.2.3.4")]), "10.0.0.1");
        assert_eq!(of(&[("forwarded", "for=6.6.6.6;x=\", for=\"[2001:db8::1]\"")]), "10.0.0.1");
        assert_eq!(of(&[("forwarded", "for=6.6.6.6;x=\""), ("forwarded", "for=1.2.3.4")]), "1.2.3.4");
        assert_eq!(of(&[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "1.2.3.4")]), "1.2.3.4");
        // The proxy writes one of the headers; the other one is from its client.
        let (one, other) = (("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "1.2.3.4"));
        assert_eq!(of(&[one, other]), "10.0.0.1");
        assert_eq!(of(&[("forwarded", "for=1.2.3.4"), other]), "1.2.3.4");
    }

    #[test]
    fn a_page_of_this_server_is_recognised_by_its_host_name() {
        let hosts = ["events.example.com".to_owned()];
        let foreign = |name: &'static str, value: &'static str| {
            let mut headers = headers(name, value);
            headers.insert("host", "localhost:8000".parse().expect("a value"));
            foreign_page(&headers, &hosts)
        };
        for (name, value) in [
            ("origin", "http://localhost:8000"),
            ("origin", "https://events.example.com"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-site", "none"),
            ("x", "y"),
        ] {
            assert!(!foreign(name, value), "{name}: {value}");
        }
        for (name, value) in [
            ("origin", "http://localhost:3000"),
            ("origin", "http://6.6.6.6"),
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("origin", ""),
            ("sec-fetch-site", "cross-site"),
        ] {
            assert!(foreign(name, value), "{name}: {value}");
        }
    }

    #[test]
    fn requests_for_unknown_host_names_are_refused() {
        let hosts = ["events.example.com".to_owned()];
        let known = |lines: &[&str]| {
            let request =
                lines.iter().fold(Request::builder(), |request, line| request.header("host", *line));
            known_host(&request.body(()).expect("a request"), &hosts)
        };
        for host in [
            "localhost",
            "localhost:",
            "localhost:8000",
            "127.0.0.1:1",
            "[::1]:8000",
            "192.168.1.9",
            "Events.Example.com:443",
        ] {
            assert!(matches!(known(&[host]), Ok(())), "{host}");
        }
        assert!(
            matches!(known(&["evil.example:8000"]), Err(ApiError::UnknownHost(name)) if name == "evil.example")
        );
        for lines in [
            &[][..],
            &["localhost", "evil.example"],
            &["localhost", "localhost"],
            &[""],
            &["a b"],
            &["localhost:abc"],
            &["localhost:99999"],
            &["localhost:80@evil.example"],
            &["localhost:80.evil.example"],
            &["[::1"],
            &["[::1]x"],
            &["[localhost]"],
            &["user@localhost"],
        ] {
            assert!(matches!(known(lines), Err(ApiError::Parameter { name: "Host", .. })), "{lines:?}");
        }
        let old = Request::builder().version(Version::HTTP_10).body(()).expect("a request");
        assert!(known_host(&old, &hosts).is_ok());
        for (address, name, good) in [
            ("http://localhost:8000/liveEvent", "evil.example", true),
            ("http://evil.example/liveEvent", "localhost", false),
            ("http://user:pw@localhost/liveEvent", "localhost", false),
        ] {
            let request = Request::builder().uri(address).header("host", name).body(()).expect("a request");
            assert_eq!(known_host(&request, &hosts).is_ok(), good, "{address}");
        }
    }
}

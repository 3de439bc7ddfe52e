//! Where a request comes from, and under which name it reached us.

use std::net::IpAddr;

use axum::http::{HeaderMap, Version, header};

/// The other end of the connection, put on every request by the server.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// The sender's address: the peer's, or what a trusted proxy says it is.
pub fn origin(peer: IpAddr, headers: &HeaderMap, trusted_proxies: &[IpAddr]) -> IpAddr {
    let mut address = peer.to_canonical();
    if trusted_proxies.is_empty() {
        return address;
    }
    let forwarded = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let hops: Vec<&str> = forwarded.flat_map(|value| value.split(',')).map(str::trim).collect();
    for hop in hops.iter().rev() {
        if !trusted_proxies.contains(&address) {
            break;
        }
        match hop.parse::<IpAddr>() {
            Ok(ip) => address = ip.to_canonical(),
            Err(_) => break,
        }
    }
    address
}

/// A page that rebinds its own name to our address still sends that name: only names we go by are
/// answered. Bare addresses cannot be rebound.
pub fn known_host(headers: &HeaderMap, version: Version, hosts: &[String]) -> Result<(), String> {
    let Some(host) = headers.get(header::HOST) else {
        return if version < Version::HTTP_11 { Ok(()) } else { Err(String::new()) };
    };
    let host = host.to_str().map_err(|_| String::new())?;
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let known = name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok()
        || hosts.iter().any(|known| known.eq_ignore_ascii_case(name));
    if known { Ok(()) } else { Err(name.chars().take(100).collect()) }
}

/// Whether a browser says that a page of another site sends this. It would send it without asking first,
/// and with `--dev` no key would be missing. Programs say nothing of the kind.
pub fn foreign_page(headers: &HeaderMap, hosts: &[String]) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if text("sec-fetch-site").is_some_and(|site| site.eq_ignore_ascii_case("cross-site")) {
        return true;
    }
    let Some(origin) = text("origin") else { return false };
    let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
    let name = authority.rsplit_once(':').map_or(authority, |(name, _)| name);
    let asked = text("host").unwrap_or_default();
    let ours = !authority.is_empty()
        && (authority.eq_ignore_ascii_case(asked)
            || hosts.iter().any(|host| host.eq_ignore_ascii_case(name)));
    !ours
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().expect("a value"));
        headers
    }

    #[test]
    fn forwarded_addresses_are_believed_from_trusted_proxies_only() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let forwarded = headers("x-forwarded-for", "6.6.6.6, 1.2.3.4, 10.0.0.2");
        let trusted = [ip("10.0.0.1"), ip("10.0.0.2")];
        assert_eq!(origin(ip("10.0.0.1"), &forwarded, &trusted), ip("1.2.3.4"));
        assert_eq!(origin(ip("10.0.0.9"), &forwarded, &trusted), ip("10.0.0.9"));
        assert_eq!(origin(ip("10.0.0.1"), &forwarded, &[]), ip("10.0.0.1"));
        assert_eq!(origin(ip("::ffff:10.0.0.1"), &forwarded, &trusted), ip("1.2.3.4"));
    }

    #[test]
    fn a_page_is_ours_by_the_name_it_was_loaded_under() {
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
    fn only_known_names_are_answered() {
        let hosts = ["events.example.com".to_owned()];
        for host in [
            "localhost",
            "localhost:8000",
            "127.0.0.1:1",
            "[::1]:8000",
            "192.168.1.9",
            "Events.Example.com:443",
        ] {
            assert_eq!(known_host(&headers("host", host), Version::HTTP_11, &hosts), Ok(()), "{host}");
        }
        assert_eq!(
            known_host(&headers("host", "evil.example:8000"), Version::HTTP_11, &hosts),
            Err("evil.example".to_owned())
        );
        assert!(known_host(&HeaderMap::new(), Version::HTTP_11, &hosts).is_err());
        assert!(known_host(&HeaderMap::new(), Version::HTTP_10, &hosts).is_ok());
    }
}

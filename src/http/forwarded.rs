//! The path of a request through proxies, from `Forwarded` (RFC 7239) and `X-Forwarded-For`. Each proxy appends the
//! address of its client, so the last entry is the nearest one and comes first here. An unreadable entry is `None`.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderValue};

pub fn hops_of_x_forwarded_for(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    let lines = headers.get_all("x-forwarded-for").iter().rev();
    lines.flat_map(|line| {
        let text = line.to_str().unwrap_or("unreadable");
        text.rsplit(',').map(|hop| node(hop.trim())).collect::<Vec<_>>()
    })
}

pub fn hops_of_forwarded(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    let lines = headers.get_all("forwarded").iter().rev();
    lines.flat_map(|line: &HeaderValue| {
        // A line is read completely or not at all: an unclosed quote from a client must not hide the entries that
        // proxies appended.
        let hops = line.to_str().ok().and_then(elements).unwrap_or_else(|| vec![None]);
        hops.into_iter().rev()
    })
}

/// Returns the `for` address of each element of a line; `None` if the line is malformed.
fn elements(line: &str) -> Option<Vec<Option<IpAddr>>> {
    let (mut hops, mut hop, mut rest) = (Vec::new(), None, line);
    loop {
        let (name, after) = rest.split_once('=')?;
        let name = name.trim_start();
        if name.is_empty() || !name.bytes().all(is_token) {
            return None;
        }
        let (value, after) = value(after)?;
        if name.eq_ignore_ascii_case("for") {
            hop = node(&value);
        }
        let after = after.trim_start();
        match after.bytes().next() {
            Some(b';') => {}
            Some(b',') => hops.push(hop.take()),
            None => {
                hops.push(hop);
                return Some(hops);
            }
            Some(_) => return None,
        }
        rest = &after[1..];
    }
}

/// Parses a token or a quoted string, and returns it with the rest of the text.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.bytes().position(|byte| !is_token(byte)).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let (mut value, mut escaped) = (String::new(), false);
    for (at, character) in quoted.char_indices() {
        match character {
            _ if escaped => {
                value.push(character);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return Some((value, &quoted[at + 1..])),
            _ => value.push(character),
        }
    }
    None
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Parses an address, with or without brackets and a port. Other names of a node contain no address.
fn node(text: &str) -> Option<IpAddr> {
    let address = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            if !port.is_empty() && !port.starts_with(':') {
                return None;
            }
            return address.parse().ok().map(IpAddr::V6);
        }
        None => text,
    };
    match address.split_once(':') {
        Some((ip, port)) if !port.contains(':') => ip.parse().ok().map(IpAddr::V4),
        _ => address.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_read_as_rfc_7239_defines_them() {
        let of = |line: &str| {
            elements(line).map(|hops| {
                hops.into_iter()
                    .map(|hop| hop.map_or("-".to_owned(), |ip| ip.to_string()))
                    .collect::<Vec<_>>()
            })
        };
        let cases: [(&str, &[&str]); 9] = [
            ("for=192.0.2.43", &["192.0.2.43"]),
            ("For=\"[2001:db8:cafe::17]:4711\"", &["2001:db8:cafe::17"]),
            ("for=192.0.2.60;proto=http;by=203.0.113.43", &["192.0.2.60"]),
            ("for=192.0.2.43, for=198.51.100.17", &["192.0.2.43", "198.51.100.17"]),
            ("proto=https;for=\"192.0.2.1:80\" , for=unknown,for=_hidden", &["192.0.2.1", "-", "-"]),
            ("by=10.0.0.1", &["-"]),
            ("for=192.0.2.1;ext=\"a, for=6.6.6.6\", for=\"10.0.0.\\1\"", &["192.0.2.1", "10.0.0.1"]),
            ("for=\"[::1]x\"", &["-"]),
            ("for=192.0.2.1;host=\"a\\\"b\"", &["192.0.2.1"]),
        ];
        for (line, hops) in cases {
            assert_eq!(of(line).expect(line), hops, "{line}");
        }
        for line in [
            "",
            "192.0.2.1",
            "for=",
            "for=1.1.1.1;x=\", for=10.0.0.1",
            "for=\"1.1.1.1",
            "=1.1.1.1",
            "for=1.1.1.1 for=2.2.2.2",
            "for=1.1.1.1,",
            "f\"r=1.1.1.1",
        ] {
            assert_eq!(of(line), None, "{line}");
        }
    }

    #[test]
    fn nodes_are_addresses_with_or_without_a_port() {
        for (text, address) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("192.0.2.1:8080", Some("192.0.2.1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("[2001:db8::1]:443", Some("2001:db8::1")),
            ("unknown", None),
            ("_secret:1", None),
            ("localhost", None),
            ("[192.0.2.1]", None),
            ("", None),
        ] {
            assert_eq!(node(text), address.map(|text| text.parse().expect("an address")), "{text}");
        }
    }
}

//! Addresses to listen on: `HOST:PORT`, optionally after `http://` or `https://`. `localhost` means both address
//! families, because clients connect to `localhost` and some runtimes try ::1 first.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::Deserialize;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ListenAt {
    /// `None` for `localhost`.
    host: Option<IpAddr>,
    pub port: u16,
    pub tls: bool,
}

impl TryFrom<String> for ListenAt {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let form = "such as `localhost:8000` or `https://0.0.0.0:8443`";
        Self::parse(&text).ok_or_else(|| format!("`{text}` is not an address to listen on, {form}"))
    }
}

impl ListenAt {
    fn parse(text: &str) -> Option<Self> {
        let (tls, address) = match text.split_once("://") {
            None => (false, text),
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some(_) => return None,
        };
        if let Ok(socket) = address.parse::<SocketAddr>() {
            return Some(Self { host: Some(socket.ip()), port: socket.port(), tls });
        }
        let (host, port) = address.rsplit_once(':')?;
        let port = port.parse().ok()?;
        (host == "localhost").then_some(Self { host: None, port, tls })
    }

    /// Returns the socket addresses. The first one must be available; the others are optional.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let ips = match self.host {
            Some(ip) => vec![ip],
            None => vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)],
        };
        ips.into_iter().map(|ip| SocketAddr::new(ip, self.port)).collect()
    }

    pub fn is_loopback(&self) -> bool {
        self.host.is_none_or(|ip| ip.is_loopback())
    }
}

/// Writes the address as a URL.
impl fmt::Display for ListenAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls { "https://" } else { "http://" })?;
        match self.host {
            Some(ip) => SocketAddr::new(ip, self.port).fmt(f),
            None => write!(f, "localhost:{}", self.port),
        }
    }
}

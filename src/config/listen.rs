//! Addresses to listen at: `HOST:PORT`, with or without `http://` or `https://` before it. `localhost` means
//! both address families, because clients dial `localhost` and some runtimes try ::1 first.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::ConfigError;
use super::file::Location;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAt {
    host: Option<IpAddr>,
    pub port: u16,
    pub tls: bool,
}

impl ListenAt {
    pub fn parse(text: &str, origin: &Location) -> Result<Self, ConfigError> {
        let wrong = || {
            ConfigError::at(
                origin,
                format!(
                    "`{text}` is no address to listen at, such as `localhost:8000` or `https://0.0.0.0:8443`"
                ),
            )
        };
        let (tls, place) = match text.split_once("://") {
            None => (false, text),
            Some(("http", place)) => (false, place),
            Some(("https", place)) => (true, place),
            Some(_) => return Err(wrong()),
        };
        if let Ok(address) = place.parse::<SocketAddr>() {
            return Ok(Self { host: Some(address.ip()), port: address.port(), tls });
        }
        let (host, port) = place.rsplit_once(':').ok_or_else(wrong)?;
        match (host, port.parse()) {
            ("localhost", Ok(port)) => Ok(Self { host: None, port, tls }),
            _ => Err(wrong()),
        }
    }

    /// The addresses, the first of which has to be had.
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

/// As an URL.
impl fmt::Display for ListenAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls { "https://" } else { "http://" })?;
        match self.host {
            Some(ip) => SocketAddr::new(ip, self.port).fmt(f),
            None => write!(f, "localhost:{}", self.port),
        }
    }
}

//! Which addresses a webhook may be sent to. A URL may come from an event, so it must not reach services that only
//! millrace's own network can reach.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

const PRIVATE: &str = "a private address";
const LOOPBACK: &str = "a loopback address";
const LINK_LOCAL: &str = "a link-local address";
const UNSPECIFIED: &str = "an unspecified address";
const DOCUMENTATION: &str = "an address for documentation";
const BENCHMARKING: &str = "an address for benchmarks";
const PROTOCOL: &str = "an address for network protocols";
const RELAY: &str = "a 6to4 address, which can stand for a private one";
const NAT64: &str = "a NAT64 address, which can stand for a private one";
const MULTICAST: &str = "a multicast address";
const RESERVED: &str = "a reserved address";

/// Networks with the length of their prefix, after the special-purpose registry of IANA.
const REFUSED_V4: [(Ipv4Addr, u32, &str); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, UNSPECIFIED),
    (Ipv4Addr::new(10, 0, 0, 0), 8, PRIVATE),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "an address behind a provider's NAT"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, LOOPBACK),
    // The metadata services of cloud providers, which hand out credentials, are at 169.254.169.254.
    (Ipv4Addr::new(169, 254, 0, 0), 16, LINK_LOCAL),
    (Ipv4Addr::new(172, 16, 0, 0), 12, PRIVATE),
    (Ipv4Addr::new(192, 0, 0, 0), 24, PROTOCOL),
    (Ipv4Addr::new(192, 0, 2, 0), 24, DOCUMENTATION),
    (Ipv4Addr::new(192, 88, 99, 0), 24, RELAY),
    (Ipv4Addr::new(192, 168, 0, 0), 16, PRIVATE),
    (Ipv4Addr::new(198, 18, 0, 0), 15, BENCHMARKING),
    (Ipv4Addr::new(198, 51, 100, 0), 24, DOCUMENTATION),
    (Ipv4Addr::new(203, 0, 113, 0), 24, DOCUMENTATION),
    (Ipv4Addr::new(224, 0, 0, 0), 4, MULTICAST),
    (Ipv4Addr::BROADCAST, 32, "the broadcast address"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, RESERVED),
];

/// The same for IPv6. The first network that contains an address gives the reason.
const REFUSED_V6: [(Ipv6Addr, u32, &str); 16] = [
    (Ipv6Addr::UNSPECIFIED, 128, UNSPECIFIED),
    (Ipv6Addr::LOCALHOST, 128, LOOPBACK),
    (Ipv6Addr::UNSPECIFIED, 96, "an IPv4-compatible address, which can stand for a private one"),
    (v6(0x64, 0xff9b, 0), 96, NAT64),
    (v6(0x64, 0xff9b, 1), 48, NAT64),
    (v6(0x100, 0, 0), 64, "an address for discarded packets"),
    (v6(0x2001, 0, 0), 32, "a Teredo address, which can stand for a private one"),
    // Benchmarks (2001:2::/48), ORCHID (2001:10::/28, 2001:20::/28) and other uses, none of them a web server.
    (v6(0x2001, 0, 0), 23, PROTOCOL),
    (v6(0x2001, 0xdb8, 0), 32, DOCUMENTATION),
    (v6(0x2002, 0, 0), 16, RELAY),
    (v6(0x3fff, 0, 0), 20, DOCUMENTATION),
    (v6(0x5f00, 0, 0), 16, PROTOCOL),
    (v6(0xfc00, 0, 0), 7, PRIVATE),
    (v6(0xfe80, 0, 0), 10, LINK_LOCAL),
    (v6(0xfec0, 0, 0), 10, PRIVATE),
    (v6(0xff00, 0, 0), 8, MULTICAST),
];

/// Ports from 1024 at which an HTTP request can do harm: these services execute lines of a request as commands, or have
/// an HTTP API that often requires no password, or belong to databases and remote desktops that no webhook uses.
const UNSAFE_PORTS: [u16; 33] = [
    1433, 1521, 2049, 2181, 2375, 2376, 2379, 2380, 3306, 3389, 4369, 5432, 5672, 5900, 5984, 6000, 6379,
    6665, 6666, 6667, 6668, 6669, 6697, 8500, 9042, 9092, 9200, 9300, 10250, 11211, 27017, 27018, 27019,
];
const FIRST_UNPRIVILEGED_PORT: u16 = 1024;

const HINT: &str = "set allow_private = true on the destination if it is inside your own network";

const fn v6(first: u16, second: u16, third: u16) -> Ipv6Addr {
    Ipv6Addr::new(first, second, third, 0, 0, 0, 0, 0)
}

/// Returns why an address is refused; `None` if it is a public address.
pub fn refused(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => refused_v4(address),
        // The system connects to the IPv4 address inside.
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(inner) => refused_v4(inner),
            None => refused_v6(address),
        },
    }
}

fn refused_v4(address: Ipv4Addr) -> Option<&'static str> {
    let within = |network: Ipv4Addr, bits: u32| (address.to_bits() ^ network.to_bits()) >> (32 - bits) == 0;
    REFUSED_V4.iter().find(|(network, bits, _)| within(*network, *bits)).map(|(_, _, reason)| *reason)
}

fn refused_v6(address: Ipv6Addr) -> Option<&'static str> {
    let within = |network: Ipv6Addr, bits: u32| (address.to_bits() ^ network.to_bits()) >> (128 - bits) == 0;
    let listed =
        REFUSED_V6.iter().find(|(network, bits, _)| within(*network, *bits)).map(|(_, _, reason)| *reason);
    // Public addresses are assigned only from this network.
    listed.or_else(|| (!within(v6(0x2000, 0, 0), 3)).then_some(RESERVED))
}

/// Which addresses and ports may be called.
#[derive(Clone, Copy, Debug)]
pub struct AddressPolicy {
    /// Allows all addresses and ports.
    pub allow_private: bool,
}

impl AddressPolicy {
    /// Fails with the reason if the URL must not be called. A host name is checked only as far as that is possible
    /// without its addresses, which `CheckedResolver` checks.
    pub fn check_url(&self, url: &Url) -> Result<(), String> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("the scheme `{}` is not allowed; use `https` or `http`", url.scheme()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(
                "the URL contains a user name or a password; send them in a header instead".to_owned()
            );
        }
        let host = url.host_str().ok_or("the URL has no host")?;
        let port = url.port_or_known_default().unwrap_or_default();
        if self.allow_private {
            return Ok(());
        }
        // The URL parser has replaced every other spelling of an address, such as `0x7f.1`.
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
        if let Some(reason) = literal.and_then(refused) {
            return Err(format!("the address {host} is {reason}; {HINT}"));
        }
        if is_localhost(host) {
            return Err(format!("the host {host} is this machine; {HINT}"));
        }
        if !is_port_allowed(port) {
            return Err(format!(
                "port {port} is not allowed; use 443, 80, or a port from {FIRST_UNPRIVILEGED_PORT} that belongs to no \
                 database or other internal service, or {HINT}"
            ));
        }
        Ok(())
    }
}

fn is_localhost(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

fn is_port_allowed(port: u16) -> bool {
    matches!(port, 80 | 443) || (port >= FIRST_UNPRIVILEGED_PORT && !UNSAFE_PORTS.contains(&port))
}

/// Looks up the addresses of a name.
type Lookup = Arc<dyn Fn(&str) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// Resolves names and keeps only allowed addresses. The HTTP client connects to the addresses that it returns and looks
/// up nothing itself, so a name cannot have another address between the check and the connection.
#[derive(Clone)]
pub struct CheckedResolver {
    policy: AddressPolicy,
    lookup: Lookup,
}

impl CheckedResolver {
    /// Uses the resolver of the system.
    pub fn new(policy: AddressPolicy) -> Self {
        let lookup: Lookup = Arc::new(|name| {
            let name = name.to_owned();
            // Port 0 stands for the port of the URL.
            Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) })
        });
        Self::with_lookup(policy, lookup)
    }

    pub fn with_lookup(policy: AddressPolicy, lookup: Lookup) -> Self {
        Self { policy, lookup }
    }
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (policy, lookup) = (self.policy, (self.lookup)(name.as_str()));
        Box::pin(async move {
            let found = lookup
                .await
                .map_err(|error| format!("cannot find the address of {}: {error}", name.as_str()))?;
            let allowed = keep_allowed(policy, name.as_str(), found)?;
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Returns the allowed addresses. Fails if there is none.
fn keep_allowed(
    policy: AddressPolicy,
    name: &str,
    found: Vec<SocketAddr>,
) -> Result<Vec<SocketAddr>, String> {
    let reason = |address: &SocketAddr| if policy.allow_private { None } else { refused(address.ip()) };
    let first_refused = found.iter().find_map(|address| Some((address.ip(), reason(address)?)));
    let allowed: Vec<_> = found.into_iter().filter(|address| reason(address).is_none()).collect();
    match first_refused {
        _ if !allowed.is_empty() => Ok(allowed),
        Some((address, reason)) => {
            Err(format!("{name} has the address {address}, which is {reason}; {HINT}"))
        }
        None => Err(format!("{name} has no address")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const STRICT: AddressPolicy = AddressPolicy { allow_private: false };
    const OPEN: AddressPolicy = AddressPolicy { allow_private: true };

    fn check(policy: AddressPolicy, url: &str) -> Result<(), String> {
        policy.check_url(&Url::parse(url).expect("a URL"))
    }

    fn reason(address: &str) -> Option<&'static str> {
        refused(address.parse().expect("an address"))
    }

    #[test]
    fn the_first_and_the_last_address_of_each_special_network_are_refused_and_their_neighbours_are_not() {
        let networks = "0.0.0.0-0.255.255.255 10.0.0.0-10.255.255.255 100.64.0.0-100.127.255.255 \
            127.0.0.0-127.255.255.255 169.254.0.0-169.254.255.255 172.16.0.0-172.31.255.255 192.0.0.0-192.0.0.255 \
            192.0.2.0-192.0.2.255 192.88.99.0-192.88.99.255 192.168.0.0-192.168.255.255 198.18.0.0-198.19.255.255 \
            198.51.100.0-198.51.100.255 203.0.113.0-203.0.113.255 224.0.0.0-255.255.255.255";
        for network in networks.split_whitespace() {
            let (first, last) = network.split_once('-').expect("a range");
            let bits = |text: &str| text.parse::<Ipv4Addr>().expect("an address").to_bits();
            assert!(reason(first).is_some() && reason(last).is_some(), "{network}");
            for outside in [bits(first).checked_sub(1), bits(last).checked_add(1)].into_iter().flatten() {
                let outside = Ipv4Addr::from_bits(outside);
                assert_eq!(refused_v4(outside), None, "{outside} beside {network}");
                assert_eq!(refused(outside.to_ipv6_mapped().into()), None, "{outside}, mapped");
            }
        }
        let public = "2000:: 2001:200:: 2001:db7:ffff:: 2001:db9:: 2003:: 2606:4700::1111 2a00:1450::8 3ffe:ffff:: \
            3fff:1000:: ::ffff:8.8.8.8";
        for address in public.split_whitespace() {
            assert_eq!(reason(address), None, "{address}");
        }
        let special = ":: ::1 ::2 ::7f00:1 ::808:808 ::ffff:10.0.0.1 ::ffff:0:7f00:1 64:ff9b::808:808 64:ff9b:1::1 \
            100::1 1fff:ffff:: 2001::1 2001:2::1 2001:10::1 2001:20::1 2001:1ff:ffff:: 2001:db8::1 2002:808:808:: \
            3fff:fff:: 4000:: 5f00::1 fc00::1 fdff::1 fe80::1 febf::1 fec0::1 feff::1 ff00:: ff02::1";
        for address in special.split_whitespace() {
            assert!(reason(address).is_some(), "{address}");
        }
        assert_eq!(reason("169.254.169.254"), Some("a link-local address"));
        assert_eq!(reason("::ffff:127.0.0.1"), Some("a loopback address"));
        assert_eq!(reason("255.255.255.255"), Some("the broadcast address"));
    }

    #[test]
    fn an_inner_address_is_refused_in_every_spelling() {
        let hosts = "2130706433 0x7f.1 0x7f000001 0177.0.0.1 017700000001 127.1 127.0.0.1. 0 0.0.0.0 ①②⑦.0.0.1 127。0。0。1 \
            %31%32%37.0.0.1 [::ffff:127.0.0.1] [::ffff:7f00:1] [::127.0.0.1] [0:0:0:0:0:0:0:1] [::1] [::] \
            [64:ff9b::7f00:1] [2002:7f00:1::] localhost localhost. LOCALHOST ｌocalhost foo.localhost a.b.localhost. \
            169.254.169.254 0xa9fea9fe 100.100.100.200 10.0.0.1 192.168.0.1 172.16.0.1 [fd00:ec2::254] [fe80::1]";
        for host in hosts.split_whitespace() {
            for url in [format!("http://{host}/"), format!("https://{host}:8443/hook?a=b")] {
                assert!(check(STRICT, &url).is_err(), "{url}");
                assert_eq!(check(OPEN, &url), Ok(()), "{url}");
            }
        }
        for host in [
            "hooks.example",
            "8.8.8.8",
            "[2606:4700::1111]",
            "[::ffff:8.8.8.8]",
            "localhost.example",
            "notlocalhost",
        ] {
            assert_eq!(check(STRICT, &format!("http://{host}/")), Ok(()), "{host}");
        }
        assert_eq!(
            check(STRICT, "http://0x7f.1/"),
            Err(format!("the address 127.0.0.1 is a loopback address; {HINT}"))
        );
    }

    #[test]
    fn schemes_credentials_and_ports_are_limited() {
        for url in
            ["ftp://hooks.example/", "file:///etc/passwd", "gopher://hooks.example/", "data:text/plain,a"]
        {
            assert!(check(STRICT, url).is_err() && check(OPEN, url).is_err(), "{url}");
        }
        for url in
            ["https://user:pw@hooks.example/", "https://user@hooks.example/", "https://:pw@hooks.example/"]
        {
            let error = check(OPEN, url).expect_err(url);
            assert!(!error.contains("pw"), "{error}");
        }
        for port in [80, 443, 1024, 3000, 8080, 8443, 65535] {
            assert_eq!(check(STRICT, &format!("http://hooks.example:{port}/")), Ok(()), "{port}");
        }
        for port in [0, 1, 22, 25, 81, 1023].into_iter().chain(UNSAFE_PORTS) {
            let url = format!("http://hooks.example:{port}/");
            assert!(check(STRICT, &url).is_err() && check(OPEN, &url).is_ok(), "{port}");
        }
    }

    async fn resolve(resolver: &CheckedResolver) -> Result<Vec<IpAddr>, String> {
        let resolving = resolver.resolve("host.example".parse().expect("a name"));
        resolving.await.map(|found| found.map(|one| one.ip()).collect()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn each_lookup_is_checked_and_only_allowed_addresses_are_kept() {
        let answers = [vec!["8.8.8.8", "10.0.0.1"], vec!["127.0.0.1"], vec!["10.0.0.1", "::1"], vec![]];
        let next = AtomicUsize::new(0);
        let lookup: Lookup = Arc::new(move |_| {
            let answer = &answers[next.fetch_add(1, Ordering::Relaxed) % answers.len()];
            let answer =
                answer.iter().map(|text| SocketAddr::new(text.parse().expect("an address"), 0)).collect();
            Box::pin(std::future::ready(Ok(answer)))
        });
        let strict = CheckedResolver::with_lookup(STRICT, Arc::clone(&lookup));
        assert_eq!(resolve(&strict).await, Ok(vec![IpAddr::from([8, 8, 8, 8])]));
        let refused = |kind| format!("host.example has the address {kind}; {HINT}");
        assert_eq!(resolve(&strict).await, Err(refused("127.0.0.1, which is a loopback address")));
        assert_eq!(resolve(&strict).await, Err(refused("10.0.0.1, which is a private address")));
        assert_eq!(resolve(&strict).await, Err("host.example has no address".to_owned()));
        let open = CheckedResolver::with_lookup(OPEN, lookup);
        assert_eq!(resolve(&open).await.map(|found| found.len()), Ok(2));
    }

    #[tokio::test]
    async fn the_systems_resolver_is_used_by_default() {
        let resolving = CheckedResolver::new(STRICT).resolve("localhost".parse().expect("a name"));
        let error = resolving.await.err().expect("refused").to_string();
        assert!(error.contains("which is a loopback address"), "{error}");
    }
}

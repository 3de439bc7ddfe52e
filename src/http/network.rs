//! Networks as people write them: `10.0.0.0/8`, `fd00::/8`, or one address.

use std::net::IpAddr;

use serde::Deserialize;

/// All addresses with the same first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Network {
    /// An IPv4 address is stored as an IPv4-mapped IPv6 address.
    bits: u128,
    prefix: u32,
}

/// The length of the prefix of an IPv4-mapped IPv6 address.
const MAPPED_BITS: u32 = 96;

impl Network {
    pub fn contains(&self, address: IpAddr) -> bool {
        let other = mapped(address);
        let same = |prefix: u32| prefix == 0 || (self.bits ^ other) >> (u128::BITS - prefix) == 0;
        // `::/0` contains all IPv6 addresses, but no IPv4 addresses.
        same(self.prefix) && (self.prefix >= MAPPED_BITS || address.to_canonical().is_ipv6())
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        parse(&text).ok_or_else(|| format!("`{text}` is not an address or network such as `10.0.0.0/8`"))
    }
}

fn parse(text: &str) -> Option<Network> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) if prefix.bytes().all(|byte| byte.is_ascii_digit()) => {
            (address.parse::<IpAddr>().ok()?, Some(prefix.parse::<u32>().ok()?))
        }
        Some(_) => return None,
        None => (text.parse().ok()?, None),
    };
    let before = if address.is_ipv4() { MAPPED_BITS } else { 0 };
    let prefix = before + prefix.unwrap_or(u128::BITS - before);
    (prefix <= u128::BITS).then(|| Network { bits: mapped(address), prefix })
}

fn mapped(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_the_addresses_with_its_prefix() {
        let cases = [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.1.2.3/8", "10.0.0.1", "9.255.255.255"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("192.0.2.7/32", "::ffff:192.0.2.7", "192.0.2.6"),
            ("192.0.2.0/31", "192.0.2.1", "192.0.2.2"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("::/0", "2001:db8::1", "10.0.0.1"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("2001:db8::1", "2001:db8::1", "2001:db8::2"),
            ("::ffff:10.0.0.0/104", "10.9.9.9", "11.0.0.0"),
        ];
        for (network, inside, outside) in cases {
            let contains =
                |address: &str| parse(network).expect(network).contains(address.parse().expect("an address"));
            assert!(contains(inside) && !contains(outside), "{network}");
        }
        for text in
            ["", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/", "10.0.0.0/+8", "proxy", "10.0.0.0/8/8"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}

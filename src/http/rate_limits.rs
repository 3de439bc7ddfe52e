//! Request rates per key and per address. A request over the rate is refused before its body is read.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use event::limits::{SENDERS_COUNTED_MAX, SENDERS_FORGOTTEN_INTERVAL_MIN};

use super::rate::{Limits, Rate};
use super::{ApiError, credentials};
use crate::admission::Keys;

/// The request rates. Each of them is optional.
pub struct RateLimits {
    per_key: Option<Limiter>,
    per_address: Option<Limiter>,
}

impl RateLimits {
    pub fn new(limits: Limits) -> Self {
        let limiter = |rate: Option<Rate>| rate.map(Limiter::new);
        Self { per_key: limiter(limits.per_key), per_address: limiter(limits.per_address) }
    }

    /// Counts a request from `address`. Fails if it exceeds the rate.
    pub fn count_address(&self, address: IpAddr) -> Result<(), ApiError> {
        let Some(limiter) = &self.per_address else { return Ok(()) };
        limiter.count(network(address)).map_err(|wait| ApiError::too_many_requests("address", wait))
    }

    /// Counts a request with a known key. Fails if it exceeds the rate. An unknown key counts as no key.
    pub fn count_key(&self, keys: &Keys, headers: &HeaderMap) -> Result<(), ApiError> {
        if self.per_key.is_some() { self.count_known(keys.counted_as(credentials(headers))) } else { Ok(()) }
    }

    /// Counts an event on a connection whose key is counted under this number.
    pub fn count_known(&self, counted_as: Option<u128>) -> Result<(), ApiError> {
        let (Some(limiter), Some(key)) = (&self.per_key, counted_as) else { return Ok(()) };
        limiter.count(key).map_err(|wait| ApiError::too_many_requests("key", wait))
    }
}

/// Returns the address, or the /64 network of an IPv6 address: one sender usually has all addresses of a /64.
pub fn network(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits() >> 64 << 64,
    }
}

/// The entry for senders that have none of their own. No address equals it, and a key does with a probability of
/// 2^-128.
const ALL_OTHERS: u128 = u128::MAX;

/// Limits the senders of one kind with the generic cell rate algorithm. For each sender it stores one time: when its
/// requests so far would have been due at an even rate. The sender may be ahead of that time by its burst.
struct Limiter {
    rate: Rate,
    begun: Instant,
    senders: Mutex<Senders>,
}

#[derive(Default)]
struct Senders {
    due: HashMap<u128, Duration>,
    cleaned_at: Duration,
}

impl Limiter {
    fn new(rate: Rate) -> Self {
        Self { rate, begun: Instant::now(), senders: Mutex::default() }
    }

    /// Counts a request. Fails with the time to wait if it exceeds the rate.
    fn count(&self, sender: u128) -> Result<(), Duration> {
        let now = self.begun.elapsed();
        event::lock(&self.senders).count(&self.rate, sender, now)
    }
}

impl Senders {
    fn count(&mut self, rate: &Rate, sender: u128, now: Duration) -> Result<(), Duration> {
        self.remove_idle(now);
        let full = self.due.len() >= SENDERS_COUNTED_MAX && !self.due.contains_key(&sender);
        // If the table is full, new senders share one entry, so that they are limited at all.
        let due = self.due.entry(if full { ALL_OTHERS } else { sender }).or_default();
        let after = (*due).max(now) + rate.interval;
        let latest = now + rate.interval * rate.burst;
        if after > latest {
            return Err(after - latest);
        }
        *due = after;
        Ok(())
    }

    /// At intervals, removes senders whose requests would be treated as their first ones.
    fn remove_idle(&mut self, now: Duration) {
        if now.saturating_sub(self.cleaned_at) >= SENDERS_FORGOTTEN_INTERVAL_MIN {
            self.due.retain(|_, due| *due > now);
            self.due.shrink_to(self.due.len() * 2);
            self.cleaned_at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { interval: Duration::from_millis(100), burst: 10 };

    #[test]
    fn a_burst_passes_and_then_one_each_interval() {
        let mut senders = Senders::default();
        let mut count = |millis: u64| senders.count(&RATE, 1, Duration::from_millis(millis));
        (0..10).for_each(|_| assert_eq!(count(5_000), Ok(())));
        assert_eq!(count(5_000), Err(Duration::from_millis(100)));
        assert_eq!(count(5_040), Err(Duration::from_millis(60)));
        assert_eq!(count(5_100), Ok(()));
        assert_eq!(count(5_100), Err(Duration::from_millis(100)));
        // A second later the whole burst is available again, and no more than that.
        (0..10).for_each(|_| assert_eq!(count(7_000), Ok(())));
        assert!(count(7_000).is_err());
    }

    #[test]
    fn the_table_of_senders_is_bounded_and_further_senders_are_limited_together() {
        let mut senders = Senders::default();
        let now = Duration::from_secs(5);
        (0..SENDERS_COUNTED_MAX as u128)
            .for_each(|sender| assert_eq!(senders.count(&RATE, sender, now), Ok(())));
        let accepted =
            (0..1_000).filter(|other| senders.count(&RATE, 1 << 100 | *other, now).is_ok()).count();
        assert_eq!(accepted, 10);
        assert_eq!(senders.due.len(), SENDERS_COUNTED_MAX + 1);
        // A known sender continues as before; silent senders are removed.
        assert_eq!(senders.count(&RATE, 7, now), Ok(()));
        assert_eq!(senders.count(&RATE, 1 << 100, now + Duration::from_secs(9)), Ok(()));
        assert_eq!(senders.due.len(), 1);
    }

    #[test]
    fn addresses_of_one_network_are_counted_together() {
        let of = |text: &str| network(text.parse().expect("an address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1:2:3"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
        assert_eq!(of("10.0.0.1"), of("::ffff:10.0.0.1"));
    }
}

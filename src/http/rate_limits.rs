//! How often one key or one address may ask: refused before anything is read of what they send.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use event::limits::{SENDERS_COUNTED_MAX, SENDERS_FORGOTTEN_INTERVAL_MIN};

use super::{ApiError, credentials};
use crate::admission::Keys;
use crate::config::{Limits, Rate};

/// The limits on requests, of which there may be none.
pub struct RateLimits {
    per_key: Option<Counted>,
    per_address: Option<Counted>,
}

impl RateLimits {
    pub fn new(limits: Limits) -> Self {
        let counted = |rate: Option<Rate>| rate.map(Counted::new);
        Self { per_key: counted(limits.per_key), per_address: counted(limits.per_address) }
    }

    /// Counts a request of `address`.
    pub fn ask_by_address(&self, address: IpAddr) -> Result<(), ApiError> {
        let Some(counted) = &self.per_address else { return Ok(()) };
        counted.ask(network(address)).map_err(|wait| ApiError::too_many_requests("address", wait))
    }

    /// Counts a request that shows a key; one that is not known is none.
    pub fn ask_by_key(&self, keys: &Keys, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(counted) = &self.per_key else { return Ok(()) };
        let Some(key) = keys.counted_as(credentials(headers)) else { return Ok(()) };
        counted.ask(key).map_err(|wait| ApiError::too_many_requests("key", wait))
    }
}

/// Whoever has an address of IPv6 has all of its /64.
pub fn network(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits() >> 64 << 64,
    }
}

/// No address and, but for one in 2^128, no key.
const ALL_OTHERS: u128 = u128::MAX;

/// Senders of one kind. Of each there is one number: when all that it was let do would have been due, had
/// it asked evenly. It may be ahead of that by its burst (the generic cell rate algorithm).
struct Counted {
    rate: Rate,
    begun: Instant,
    senders: Mutex<Senders>,
}

#[derive(Default)]
struct Senders {
    due: HashMap<u128, Duration>,
    forgotten_at: Duration,
}

impl Counted {
    fn new(rate: Rate) -> Self {
        Self { rate, begun: Instant::now(), senders: Mutex::default() }
    }

    /// Or how long the sender has to wait.
    fn ask(&self, sender: u128) -> Result<(), Duration> {
        let now = self.begun.elapsed();
        self.senders.lock().expect("no panic while holding the lock").ask(&self.rate, sender, now)
    }
}

impl Senders {
    fn ask(&mut self, rate: &Rate, sender: u128, now: Duration) -> Result<(), Duration> {
        self.forget(now);
        let full = self.due.len() >= SENDERS_COUNTED_MAX && !self.due.contains_key(&sender);
        // Those for whom there is no room share what is one sender's: better than counting none of them.
        let due = self.due.entry(if full { ALL_OTHERS } else { sender }).or_default();
        let after = (*due).max(now) + rate.interval;
        let latest = now + rate.interval * rate.burst;
        if after > latest {
            return Err(after - latest);
        }
        *due = after;
        Ok(())
    }

    /// Those who would be let in as if they had never asked, now and then.
    fn forget(&mut self, now: Duration) {
        if now.saturating_sub(self.forgotten_at) >= SENDERS_FORGOTTEN_INTERVAL_MIN {
            self.due.retain(|_, due| *due > now);
            self.due.shrink_to(self.due.len() * 2);
            self.forgotten_at = now;
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
        let mut ask = |millis: u64| senders.ask(&RATE, 1, Duration::from_millis(millis));
        (0..10).for_each(|_| assert_eq!(ask(5_000), Ok(())));
        assert_eq!(ask(5_000), Err(Duration::from_millis(100)));
        assert_eq!(ask(5_040), Err(Duration::from_millis(60)));
        assert_eq!(ask(5_100), Ok(()));
        assert_eq!(ask(5_100), Err(Duration::from_millis(100)));
        // A second later the burst is there again, and no more than that.
        (0..10).for_each(|_| assert_eq!(ask(7_000), Ok(())));
        assert!(ask(7_000).is_err());
    }

    #[test]
    fn any_number_of_senders_takes_bounded_room_and_others_are_counted_all_the_same() {
        let mut senders = Senders::default();
        let now = Duration::from_secs(5);
        (0..SENDERS_COUNTED_MAX as u128)
            .for_each(|sender| assert_eq!(senders.ask(&RATE, sender, now), Ok(())));
        let let_in = (0..1_000).filter(|other| senders.ask(&RATE, 1 << 100 | *other, now).is_ok()).count();
        assert_eq!(let_in, 10);
        assert_eq!(senders.due.len(), SENDERS_COUNTED_MAX + 1);
        // One who was known goes on as before; all who are silent are forgotten.
        assert_eq!(senders.ask(&RATE, 7, now), Ok(()));
        assert_eq!(senders.ask(&RATE, 1 << 100, now + Duration::from_secs(9)), Ok(()));
        assert_eq!(senders.due.len(), 1);
    }

    #[test]
    fn addresses_are_counted_by_the_network_that_one_sender_has() {
        let of = |text: &str| network(text.parse().expect("an address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1:2:3"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
        assert_eq!(of("10.0.0.1"), of("::ffff:10.0.0.1"));
    }
}

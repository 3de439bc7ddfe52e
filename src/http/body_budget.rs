//! Limits the memory for bodies that are being read: of all bodies, of those from one address, and of those that need
//! no key. So senders without a key cannot use up the memory for senders with a key.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{LazyLock, Mutex, MutexGuard};

use event::limits::{
    BODIES_BYTES_MAX, BODIES_OF_ADDRESS_BYTES_MAX, OPEN_BODIES_BYTES_MAX, OPEN_BODIES_OF_ADDRESS_BYTES_MAX,
};

use super::rate_limits::network;
use super::{ApiError, Peer};
use crate::admission::Refusal;

static BODIES: LazyLock<Mutex<Budget>> = LazyLock::new(Mutex::default);

/// The bytes in use.
#[derive(Default)]
struct Budget {
    all: usize,
    open: usize,
    /// The bytes in use by the sender's network. A sender without bytes has no entry.
    senders: HashMap<u128, Usage>,
}

#[derive(Default)]
struct Usage {
    all: usize,
    open: usize,
}

/// The memory of one request, which is given back when this is dropped. A share grows as bytes arrive, not as they
/// are announced, so that a client cannot reserve memory and send nothing. It never waits, so two requests cannot
/// wait for each other.
#[derive(Default)]
pub struct Share {
    bytes: usize,
    /// Absent if the sender is not counted.
    sender: Option<u128>,
    open: bool,
}

impl Share {
    /// Returns the share of a sender that showed a key.
    pub fn keyed(peer: Peer) -> Self {
        Self { bytes: 0, sender: Some(network(peer.0)), open: false }
    }

    /// Returns the share of a sender that needed no key.
    pub fn open(peer: Peer) -> Self {
        Self { bytes: 0, sender: Some(network(peer.0)), open: true }
    }

    /// Fails if the memory for bodies is used up.
    pub fn grow_to(&mut self, bytes: usize) -> Result<(), ApiError> {
        let more = bytes.saturating_sub(self.bytes);
        if more > 0 {
            budget().take(more, self.sender, self.open).ok_or(Refusal::Overloaded)?;
            self.bytes = bytes;
        }
        Ok(())
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives back the memory beyond `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let less = self.bytes.saturating_sub(bytes);
        if less > 0 {
            budget().give_back(less, self.sender, self.open);
            self.bytes = bytes;
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

fn budget() -> MutexGuard<'static, Budget> {
    event::lock(&BODIES)
}

impl Budget {
    /// Takes memory; `None`, and nothing is taken, if that would exceed one of the limits.
    fn take(&mut self, more: usize, sender: Option<u128>, open: bool) -> Option<()> {
        let more_open = if open { more } else { 0 };
        let fits =
            |used: usize, more: usize, max: usize| used.checked_add(more).is_some_and(|sum| sum <= max);
        if !fits(self.all, more, BODIES_BYTES_MAX) || !fits(self.open, more_open, OPEN_BODIES_BYTES_MAX) {
            return None;
        }
        if let Some(sender) = sender {
            let (all, of_open) = self.senders.get(&sender).map_or((0, 0), |usage| (usage.all, usage.open));
            let all_fit = fits(all, more, BODIES_OF_ADDRESS_BYTES_MAX);
            if !all_fit || !fits(of_open, more_open, OPEN_BODIES_OF_ADDRESS_BYTES_MAX) {
                return None;
            }
            let usage = self.senders.entry(sender).or_default();
            usage.all += more;
            usage.open += more_open;
        }
        self.all += more;
        self.open += more_open;
        Some(())
    }

    fn give_back(&mut self, less: usize, sender: Option<u128>, open: bool) {
        let less_open = if open { less } else { 0 };
        self.all -= less;
        self.open -= less_open;
        if let Some(sender) = sender
            && let Entry::Occupied(mut entry) = self.senders.entry(sender)
        {
            let usage = entry.get_mut();
            usage.all -= less;
            usage.open -= less_open;
            if usage.all == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use event::limits::BODY_BYTES_MAX;

    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn senders_without_a_key_leave_most_of_the_memory_to_those_with_one() {
        let mut budget = Budget::default();
        let mut taken = 0;
        for sender in 0..1_000 {
            while budget.take(MIB, Some(sender), true).is_some() {
                taken += 1;
                assert!(taken <= 1_000);
            }
        }
        assert_eq!(taken * MIB, OPEN_BODIES_BYTES_MAX);
        assert!(budget.take(16 * MIB, Some(0), false).is_some(), "the same address, with a key");
        assert!(budget.take(16 * MIB, None, false).is_some());
        assert!(budget.take(BODIES_BYTES_MAX, None, false).is_none());
    }

    #[test]
    fn one_address_without_a_key_cannot_use_the_memory_of_all_such_addresses() {
        let mut budget = Budget::default();
        assert!(budget.take(OPEN_BODIES_OF_ADDRESS_BYTES_MAX, Some(7), true).is_some());
        assert!(budget.take(1, Some(7), true).is_none());
        assert!(budget.take(1, Some(8), true).is_some());
        assert_eq!(budget.all, OPEN_BODIES_OF_ADDRESS_BYTES_MAX + 1, "a refusal takes nothing");
    }

    #[test]
    fn one_address_leaves_memory_for_the_largest_body_of_another() {
        let mut budget = Budget::default();
        while budget.take(MIB, Some(7), false).is_some() {}
        assert!(budget.take(BODY_BYTES_MAX, Some(8), false).is_some());
        assert!(budget.take(1, Some(9), false).is_none());
    }

    #[test]
    fn memory_that_is_given_back_is_free_and_senders_are_forgotten() {
        let mut budget = Budget::default();
        for round in 0..3 {
            assert!(budget.take(5, Some(7), true).is_some(), "{round}");
            assert!(budget.take(6, Some(7), false).is_some(), "{round}");
            budget.give_back(6, Some(7), false);
            budget.give_back(5, Some(7), true);
            assert_eq!((budget.all, budget.open), (0, 0));
            assert!(budget.senders.is_empty());
        }
    }
}

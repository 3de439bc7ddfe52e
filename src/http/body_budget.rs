//! Limits the memory for bodies that are being read: of all bodies, of those from one address, and of those that
//! came without a key. So senders without a key cannot use up the memory for senders with a key.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use event::limits::{
    BODIES_BYTES_MAX, BODIES_OF_ADDRESS_BYTES_MAX, OPEN_BODIES_BYTES_MAX, OPEN_BODIES_OF_ADDRESS_BYTES_MAX,
};

use super::rate_limits::network;
use super::{ApiError, Peer};
use crate::admission::Refusal;

static BODIES: LazyLock<Mutex<Budget>> = LazyLock::new(Mutex::default);

/// The bytes that are held.
#[derive(Default)]
struct Budget {
    all: usize,
    open: usize,
    /// By the sender's network; only those that hold something.
    senders: HashMap<u128, Held>,
}

#[derive(Default)]
struct Held {
    all: usize,
    open: usize,
}

/// One request's share, given back when it is dropped. A share grows as bytes come in, not as they are announced, so
/// that nobody holds memory by sending nothing. It never waits, so that no two requests wait for each other.
#[derive(Default)]
pub struct Share {
    held: usize,
    /// Absent if the sender is not counted.
    sender: Option<u128>,
    open: bool,
}

impl Share {
    /// Returns the share of a sender that showed a key.
    pub fn keyed(peer: Peer) -> Self {
        Self { held: 0, sender: Some(network(peer.0)), open: false }
    }

    /// Returns the share of a sender that needed no key.
    pub fn open(peer: Peer) -> Self {
        Self { held: 0, sender: Some(network(peer.0)), open: true }
    }

    pub fn grow_to(&mut self, bytes: usize) -> Result<(), ApiError> {
        let more = bytes.saturating_sub(self.held);
        if more > 0 {
            budget().take(more, self.sender, self.open).ok_or(Refusal::Overloaded)?;
            self.held = bytes;
        }
        Ok(())
    }

    pub fn held(&self) -> usize {
        self.held
    }

    /// Gives back what is held beyond `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let less = self.held.saturating_sub(bytes);
        if less > 0 {
            budget().give_back(less, self.sender, self.open);
            self.held = bytes;
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

fn budget() -> MutexGuard<'static, Budget> {
    BODIES.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Budget {
    /// Takes nothing where one of the bounds would be passed.
    fn take(&mut self, more: usize, sender: Option<u128>, open: bool) -> Option<()> {
        let more_open = if open { more } else { 0 };
        let fits =
            |held: usize, more: usize, max: usize| held.checked_add(more).is_some_and(|sum| sum <= max);
        if !fits(self.all, more, BODIES_BYTES_MAX) || !fits(self.open, more_open, OPEN_BODIES_BYTES_MAX) {
            return None;
        }
        if let Some(sender) = sender {
            let (all, of_open) = self.senders.get(&sender).map_or((0, 0), |held| (held.all, held.open));
            let all_fit = fits(all, more, BODIES_OF_ADDRESS_BYTES_MAX);
            if !all_fit || !fits(of_open, more_open, OPEN_BODIES_OF_ADDRESS_BYTES_MAX) {
                return None;
            }
            let held = self.senders.entry(sender).or_default();
            held.all += more;
            held.open += more_open;
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
            let held = entry.get_mut();
            held.all -= less;
            held.open -= less_open;
            if held.all == 0 {
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
    fn an_address_without_a_key_has_a_share_of_what_those_may_hold() {
        let mut budget = Budget::default();
        assert!(budget.take(OPEN_BODIES_OF_ADDRESS_BYTES_MAX, Some(7), true).is_some());
        assert!(budget.take(1, Some(7), true).is_none());
        assert!(budget.take(1, Some(8), true).is_some());
        assert_eq!(budget.all, OPEN_BODIES_OF_ADDRESS_BYTES_MAX + 1, "what was refused took nothing");
    }

    #[test]
    fn one_address_leaves_room_for_a_largest_body_of_another() {
        let mut budget = Budget::default();
        while budget.take(MIB, Some(7), false).is_some() {}
        assert!(budget.take(BODY_BYTES_MAX, Some(8), false).is_some());
        assert!(budget.take(1, Some(9), false).is_none());
    }

    #[test]
    fn what_is_given_back_is_free_again_and_nobody_is_remembered() {
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

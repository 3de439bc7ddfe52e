//! The state of the database, as the server last saw it. The server watches the database; the API shows its state.

use std::sync::{Arc, RwLock};

use event::Millis;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreState {
    Up,
    /// Events are accepted, and the views apply them once the database can be used again.
    Down {
        since: Millis,
        reason: String,
    },
    /// The database answers, but it is not the one that belongs to the log, or millrace cannot work with it.
    Wrong {
        reason: String,
    },
}

/// A shared handle: all clones see the same state.
#[derive(Clone)]
pub struct StoreHealth(Arc<RwLock<StoreState>>);

impl Default for StoreHealth {
    fn default() -> Self {
        Self(Arc::new(RwLock::new(StoreState::Up)))
    }
}

impl StoreHealth {
    pub fn set(&self, state: StoreState) {
        *event::write_lock(&self.0) = state;
    }

    pub fn state(&self) -> StoreState {
        event::read_lock(&self.0).clone()
    }

    pub fn is_up(&self) -> bool {
        self.state() == StoreState::Up
    }
}

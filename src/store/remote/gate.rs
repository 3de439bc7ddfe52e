//! Keeps work away from a database server until the server was found to be the right one: it answers, has millrace's
//! tables, and belongs to the log. A plan that came earlier could count events in a store that has them already.

use std::sync::{Arc, RwLock};

use crate::store::StoreError;

#[derive(Clone)]
pub struct Gate(Arc<RwLock<Result<(), StoreError>>>);

impl Default for Gate {
    fn default() -> Self {
        Self::with(Err(StoreError::Transient("the database has not answered since the start".to_owned())))
    }
}

impl Gate {
    pub fn open() -> Self {
        Self::with(Ok(()))
    }

    fn with(state: Result<(), StoreError>) -> Self {
        Self(Arc::new(RwLock::new(state)))
    }

    pub fn set(&self, state: Result<(), StoreError>) {
        *event::write_lock(&self.0) = state;
    }

    pub fn check(&self) -> Result<(), StoreError> {
        event::read_lock(&self.0).clone()
    }
}

//! Connections to a database server: few, kept open, and given up at the first doubt. Whoever writes and
//! whoever reads have turns of their own, so that many readers keep no view waiting.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use event::limits::{STORE_IDLE_DURATION_MAX, STORE_READERS_MAX, STORE_WRITERS_MAX};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::server::Server;
use super::session::Session;
use crate::store::StoreError;

pub struct Pool {
    server: Server,
    /// The last that was used is at the end, and since when it has not been.
    idle: Mutex<Vec<(Instant, Session)>>,
    writers: Arc<Semaphore>,
    readers: Arc<Semaphore>,
}

/// A session for one thing to do. Dropped on the way, as a future is whose asker has gone, it is closed:
/// what is under way in it is then rolled back by the server.
pub struct Lease<'p> {
    pub session: Session,
    pool: &'p Pool,
    _turn: OwnedSemaphorePermit,
}

impl Pool {
    pub fn new(server: Server) -> Self {
        Self {
            server,
            idle: Mutex::new(Vec::new()),
            writers: Arc::new(Semaphore::new(STORE_WRITERS_MAX)),
            readers: Arc::new(Semaphore::new(STORE_READERS_MAX)),
        }
    }

    pub fn server(&self) -> &Server {
        &self.server
    }

    pub async fn to_write(&self) -> Result<Lease<'_>, StoreError> {
        self.lease(&self.writers).await
    }

    pub async fn to_read(&self) -> Result<Lease<'_>, StoreError> {
        self.lease(&self.readers).await
    }

    async fn lease(&self, turns: &Arc<Semaphore>) -> Result<Lease<'_>, StoreError> {
        let turn = Arc::clone(turns).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let session = match self.idle() {
            Some(session) => session,
            None => self.server.connect().await?,
        };
        Ok(Lease { session, pool: self, _turn: turn })
    }

    /// Firewalls forget connections over which nothing goes, and servers end them: none is kept for long.
    fn idle(&self) -> Option<Session> {
        let mut idle = self.idle.lock().expect("no panic while holding the lock");
        idle.retain(|(since, _)| since.elapsed() < STORE_IDLE_DURATION_MAX);
        idle.pop().map(|(_, session)| session)
    }

    /// Of what was open when one was lost, the others are hardly better.
    fn forget_idle(&self) {
        self.idle.lock().expect("no panic while holding the lock").clear();
    }

    /// From now on nobody gets a session.
    pub fn close(&self) {
        self.writers.close();
        self.readers.close();
        self.forget_idle();
    }
}

impl Lease<'_> {
    /// Ends a transaction as its outcome says, and keeps the session if the server answered all of it.
    pub async fn settle<T>(mut self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        let settled = match outcome {
            Ok(value) => self.session.commit().await.map(|()| value),
            Err(error) => Err(error),
        };
        match settled {
            Ok(value) => {
                self.keep();
                Ok(value)
            }
            Err(error) => {
                match self.session.rollback().await {
                    Ok(()) => self.keep(),
                    Err(_) => self.pool.forget_idle(),
                }
                Err(error)
            }
        }
    }

    /// The same where no transaction was begun.
    pub fn give_back<T>(self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        // An error may have left anything behind.
        match &outcome {
            Ok(_) => self.keep(),
            Err(StoreError::Transient(_)) => self.pool.forget_idle(),
            Err(_) => {}
        }
        outcome
    }

    fn keep(self) {
        let Self { mut session, pool, .. } = self;
        session.patience().shorten();
        if !pool.writers.is_closed() {
            let kept = (Instant::now(), session);
            pool.idle.lock().expect("no panic while holding the lock").push(kept);
        }
    }
}

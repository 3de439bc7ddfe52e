//! A small pool of connections to a database server. Connections stay open and are closed at the first doubt. Writers
//! and readers have separate limits, so many readers cannot delay a view.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use event::limits::{STORE_IDLE_DURATION_MAX, STORE_READERS_MAX, STORE_WRITERS_MAX};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::server::Server;
use super::server_session::ServerSession;
use crate::store::StoreError;
use crate::store::session::Session;

const PROBE_SQL: &str = "UPDATE millrace_meta SET value = '' WHERE name = 'no such row'";

pub struct Pool {
    server: Server,
    /// Each idle session with the time of its last use, the most recently used one last.
    idle: Mutex<Vec<(Instant, ServerSession)>>,
    writers: Arc<Semaphore>,
    readers: Arc<Semaphore>,
}

/// A session for one piece of work. If it is dropped midway, for example because its future was dropped, it is
/// closed, and the server rolls back the open transaction.
pub struct Lease<'p> {
    pub session: ServerSession,
    pool: &'p Pool,
    _permit: OwnedSemaphorePermit,
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

    /// Asks the server to change no row of one of millrace's tables, which a read-only server refuses. Uses an idle
    /// session or opens one, as other work would, but does not wait until other work ends.
    pub async fn probe(&self) -> Result<(), StoreError> {
        if let Some(session) = self.take_idle() {
            match self.probe_with(session).await {
                // The server may have closed its sessions in a restart, and work again.
                Err(StoreError::Transient(_)) => {}
                outcome => return outcome,
            }
        }
        self.probe_with(self.server.connect().await?).await
    }

    /// After an error, or if this future is dropped, the session is closed.
    async fn probe_with(&self, mut session: ServerSession) -> Result<(), StoreError> {
        session.change(PROBE_SQL, &[]).await?;
        if !self.writers.is_closed() {
            event::lock(&self.idle).push((Instant::now(), session));
        }
        Ok(())
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

    async fn lease(&self, limit: &Arc<Semaphore>) -> Result<Lease<'_>, StoreError> {
        let permit = Arc::clone(limit).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let session = match self.take_idle() {
            Some(session) => session,
            None => self.server.connect().await?,
        };
        Ok(Lease { session, pool: self, _permit: permit })
    }

    /// Returns the most recently used idle session. Firewalls and servers drop connections without traffic, so none
    /// is kept for long.
    fn take_idle(&self) -> Option<ServerSession> {
        let mut idle = event::lock(&self.idle);
        idle.retain(|(since, _)| since.elapsed() < STORE_IDLE_DURATION_MAX);
        idle.pop().map(|(_, session)| session)
    }

    /// Closes all idle sessions. When one connection is lost, the others are probably lost too.
    fn close_idle(&self) {
        event::lock(&self.idle).clear();
    }

    /// Closes the idle sessions; from now on every request for a session fails.
    pub fn close(&self) {
        self.writers.close();
        self.readers.close();
        self.close_idle();
    }
}

impl Lease<'_> {
    /// Commits after `Ok` and rolls back after `Err`. Returns the session to the pool if the server answered every
    /// statement.
    pub async fn end_transaction<T>(mut self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        let committed = match outcome {
            Ok(value) => self.session.commit().await.map(|()| value),
            Err(error) => Err(error),
        };
        if committed.is_ok() || self.session.rollback().await.is_ok() {
            self.return_to_pool();
        } else {
            self.pool.close_idle();
        }
        committed
    }

    /// Returns the session to the pool after work without a transaction, unless the work failed.
    pub fn release<T>(self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        // After an error, the session can be in any state.
        match &outcome {
            Ok(_) => self.return_to_pool(),
            Err(StoreError::Transient(_)) => self.pool.close_idle(),
            Err(_) => {}
        }
        outcome
    }

    fn return_to_pool(self) {
        let Self { mut session, pool, .. } = self;
        session.statement_timeout().shorten();
        if !pool.writers.is_closed() {
            let idle = (Instant::now(), session);
            event::lock(&pool.idle).push(idle);
        }
    }
}

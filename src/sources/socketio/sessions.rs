//! The open sessions of one path, by their ids, for the HTTP requests that belong to a session.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use event::limits::SESSION_REQUESTS_WAITING_MAX;
use tokio::sync::{mpsc, oneshot};

use crate::http::websocket::WebSocket;

/// A request of a client to its session.
pub enum SessionRequest {
    /// Waits for packets. The answer is `None` if the session has ended or does not expect this request.
    Poll(oneshot::Sender<Option<String>>),
    /// Brings packets. The answer says whether they were valid, once their events are durable.
    Post(Arc<str>, oneshot::Sender<bool>),
    /// Brings the WebSocket that will replace polling.
    Upgrade(Box<WebSocket>),
}

/// How requests reach a session.
pub struct SessionHandle {
    pub requests: mpsc::Sender<SessionRequest>,
    /// Locked by a request that brings packets: they are processed one after the other.
    pub posting: tokio::sync::Mutex<()>,
    /// The client has shown a key.
    has_key: AtomicBool,
    /// The client is in a namespace.
    is_connected: AtomicBool,
}

#[derive(Clone, Default)]
pub struct Sessions(Arc<Mutex<HashMap<Arc<str>, Arc<SessionHandle>>>>);

/// A session that is listed. Dropping it ends that.
pub struct ListedSession {
    sessions: Sessions,
    id: Arc<str>,
    handle: Arc<SessionHandle>,
    pub requests: mpsc::Receiver<SessionRequest>,
}

impl Sessions {
    pub fn add(&self, id: &Arc<str>) -> ListedSession {
        let (sender, requests) = mpsc::channel(SESSION_REQUESTS_WAITING_MAX);
        let handle = Arc::new(SessionHandle {
            requests: sender,
            posting: tokio::sync::Mutex::default(),
            has_key: AtomicBool::new(false),
            is_connected: AtomicBool::new(false),
        });
        event::lock(&self.0).insert(Arc::clone(id), Arc::clone(&handle));
        ListedSession { sessions: self.clone(), id: Arc::clone(id), handle, requests }
    }

    pub fn get(&self, id: &str) -> Option<Arc<SessionHandle>> {
        event::lock(&self.0).get(id).cloned()
    }
}

impl SessionHandle {
    pub fn has_key(&self) -> bool {
        self.has_key.load(Ordering::Relaxed)
    }

    pub fn is_connected(&self) -> bool {
        self.is_connected.load(Ordering::Relaxed)
    }
}

impl ListedSession {
    /// Returns whether a request with packets is arriving, or is being processed.
    pub fn receives(&self) -> bool {
        self.handle.posting.try_lock().is_err()
    }

    /// Tells requests what the session knows about its client.
    pub fn describe(&self, is_connected: bool, has_key: bool) {
        self.handle.is_connected.store(is_connected, Ordering::Relaxed);
        self.handle.has_key.store(has_key, Ordering::Relaxed);
    }
}

impl Drop for ListedSession {
    fn drop(&mut self) {
        event::lock(&self.sessions.0).remove(&self.id);
    }
}

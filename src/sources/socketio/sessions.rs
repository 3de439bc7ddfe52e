//! The open sessions of one path, by their ids, for the HTTP requests that belong to a session.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use event::limits::SESSION_REQUESTS_WAITING_MAX;
use tokio::sync::{mpsc, oneshot};

use crate::http::websocket::{Utf8Bytes, WebSocket};

/// A request of a client to its session.
pub enum SessionRequest {
    /// Waits for packets. The answer is `None` if the session has ended or does not expect this request.
    Poll(oneshot::Sender<Option<String>>),
    /// Brings packets. The answer says whether they were valid, once their events are durable.
    Post(Utf8Bytes, oneshot::Sender<bool>),
    /// Brings the WebSocket that will replace polling.
    Upgrade(Box<WebSocket>),
}

#[derive(Clone, Default)]
pub struct Sessions(Arc<Mutex<HashMap<Arc<str>, mpsc::Sender<SessionRequest>>>>);

/// A session that is listed. Dropping it ends that.
pub struct ListedSession {
    sessions: Sessions,
    id: Arc<str>,
    pub requests: mpsc::Receiver<SessionRequest>,
}

impl Sessions {
    pub fn add(&self, id: &Arc<str>) -> ListedSession {
        let (sender, requests) = mpsc::channel(SESSION_REQUESTS_WAITING_MAX);
        event::lock(&self.0).insert(Arc::clone(id), sender);
        ListedSession { sessions: self.clone(), id: Arc::clone(id), requests }
    }

    pub fn get(&self, id: &str) -> Option<mpsc::Sender<SessionRequest>> {
        event::lock(&self.0).get(id).cloned()
    }
}

impl Drop for ListedSession {
    fn drop(&mut self) {
        event::lock(&self.sessions.0).remove(&self.id);
    }
}

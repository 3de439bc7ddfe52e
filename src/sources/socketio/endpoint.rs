//! The HTTP requests at the path of Socket.IO sources: they open sessions, belong to one, or ask for a WebSocket.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use event::limits::{SOCKET_FIRST_POST_BYTES_MAX, SOCKET_MESSAGE_BYTES_MAX};
use tokio::sync::oneshot;

use super::engine_packet;
use super::engine_request::{EngineError, EngineQuery, TransportKind};
use super::section::SocketIoSource;
use super::session::{Opening, Session};
use super::sessions::{SessionRequest, Sessions};
use crate::admission::Refusal;
use crate::http::websocket::{Upgrade, wants_websocket};
use crate::http::{ApiError, Handshake, Peer, Share, Wording, body, random_id};
use crate::sources::SocketServices;

/// The sources at one path.
pub struct SocketIoEndpoint(Arc<Endpoint>);

pub struct Endpoint {
    pub services: SocketServices,
    /// The sources by their namespaces.
    pub namespaces: BTreeMap<String, Arc<NamespaceSources>>,
    pub sessions: Sessions,
    pub ping_interval: Duration,
    pub ping_timeout: Duration,
}

/// The sources of one namespace, at least one. Their events have different names.
pub struct NamespaceSources {
    pub name: String,
    pub sources: Vec<SocketIoSource>,
}

impl NamespaceSources {
    /// Returns the index of the source that takes events of this name.
    pub fn source_of(&self, event: &str) -> Option<usize> {
        self.sources.iter().position(|source| source.event.as_str() == event)
    }

    /// Returns the names of the events that clients may send here.
    pub fn events(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().map(|source| source.event.as_str())
    }
}

impl SocketIoEndpoint {
    /// `sources` are at the same path, and are at least one.
    pub fn new(sources: Vec<SocketIoSource>, services: &SocketServices) -> Self {
        let pings = sources.first().map(|source| (source.ping_interval.0, source.ping_timeout.0));
        let (ping_interval, ping_timeout) = pings.expect("a source");
        let mut by_namespace: BTreeMap<String, Vec<SocketIoSource>> = BTreeMap::new();
        for source in sources {
            by_namespace.entry(source.namespace.as_str().to_owned()).or_default().push(source);
        }
        let namespaces = by_namespace
            .into_iter()
            .map(|(name, sources)| (name.clone(), Arc::new(NamespaceSources { name, sources })))
            .collect();
        let (services, sessions) = (services.clone(), Sessions::default());
        Self(Arc::new(Endpoint { services, namespaces, sessions, ping_interval, ping_timeout }))
    }

    pub async fn answer(&self, peer: Peer, request: Request<impl body::AnyBody>) -> Response {
        let mut answer = match self.0.answer(peer, request).await {
            Ok(answer) => answer,
            Err(Fault::Engine(error)) => error.into_response(),
            Err(Fault::Refused(error)) => error.in_words(&Wording::under("message")),
        };
        answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }
}

/// The reason for which a request is refused.
enum Fault {
    Engine(EngineError),
    Refused(ApiError),
}

impl From<EngineError> for Fault {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<ApiError> for Fault {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal.into())
    }
}

impl Endpoint {
    async fn answer(
        self: &Arc<Self>,
        peer: Peer,
        request: Request<impl body::AnyBody>,
    ) -> Result<Response, Fault> {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let query = EngineQuery::parse(&query)?;
        let wants_websocket = wants_websocket(request.headers());
        if wants_websocket != (query.transport == TransportKind::WebSocket) {
            return Err(EngineError::BadRequest.into());
        }
        match (query.session, query.transport) {
            (None, _) if request.method() != Method::GET => Err(EngineError::BadMethod.into()),
            (None, TransportKind::Polling) => self.open_polling(peer, request.headers()),
            (None, TransportKind::WebSocket) => self.open_websocket(peer, request),
            (Some(session), TransportKind::WebSocket) => self.upgrade(session, peer, request),
            (Some(session), TransportKind::Polling) if request.method() == Method::GET => {
                self.poll(session).await
            }
            (Some(session), TransportKind::Polling) if request.method() == Method::POST => {
                self.post(session, peer, request).await
            }
            (Some(session), TransportKind::Polling) => {
                self.sessions.get(session).ok_or(EngineError::UnknownSession)?;
                Err(EngineError::BadRequest.into())
            }
        }
    }

    fn open_polling(self: &Arc<Self>, peer: Peer, headers: &HeaderMap) -> Result<Response, Fault> {
        self.services.rates.count_address(peer.0)?;
        let place = self.services.sockets.open_polling(peer)?;
        let (id, handshake) = (random_id()?, Arc::new(Handshake::of(peer, headers)));
        let open = engine_packet::open(&id, true, self.ping_interval, self.ping_timeout);
        let opening = Opening { endpoint: Arc::clone(self), handshake, place };
        tokio::spawn(Session::polling(opening, self.sessions.add(&id)).run());
        Ok(payload(open))
    }

    fn open_websocket<B>(self: &Arc<Self>, peer: Peer, mut request: Request<B>) -> Result<Response, Fault> {
        let upgrade = Upgrade::of(&mut request)?;
        self.services.rates.count_address(peer.0)?;
        let place = self.services.sockets.open(peer)?;
        let (id, handshake) = (random_id()?, Arc::new(Handshake::of(peer, request.headers())));
        let open = engine_packet::open(&id, false, self.ping_interval, self.ping_timeout);
        let opening = Opening { endpoint: Arc::clone(self), handshake, place };
        let answer = upgrade.answer(None);
        tokio::spawn(async move {
            if let Some(socket) = upgrade.socket(Share::open(peer)).await {
                Session::websocket(opening, Box::new(socket), open).run().await;
            }
        });
        Ok(answer)
    }

    /// Hands a WebSocket to a session that polls.
    fn upgrade<B>(&self, session: &str, peer: Peer, mut request: Request<B>) -> Result<Response, Fault> {
        let session = self.sessions.get(session).ok_or(EngineError::UnknownSession)?;
        let upgrade = Upgrade::of(&mut request)?;
        let answer = upgrade.answer(None);
        tokio::spawn(async move {
            if let Some(socket) = upgrade.socket(Share::open(peer)).await {
                // If the session has ended, the socket is closed.
                drop(session.requests.send(SessionRequest::Upgrade(Box::new(socket))).await);
            }
        });
        Ok(answer)
    }

    async fn poll(&self, session: &str) -> Result<Response, Fault> {
        let session = self.sessions.get(session).ok_or(EngineError::UnknownSession)?;
        let (answer, packets) = oneshot::channel();
        session.requests.try_send(SessionRequest::Poll(answer)).map_err(|_| EngineError::BadRequest)?;
        drop(session);
        let packets = packets.await.ok().flatten().ok_or(EngineError::BadRequest)?;
        Ok(payload(packets))
    }

    async fn post(
        &self,
        session: &str,
        peer: Peer,
        request: Request<impl body::AnyBody>,
    ) -> Result<Response, Fault> {
        let session = self.sessions.get(session).ok_or(EngineError::UnknownSession)?;
        let _posting = session.posting.lock().await;
        let (head, body) = request.into_parts();
        let mut share = if session.has_key() { Share::keyed(peer) } else { Share::open(peer) };
        let bytes_max =
            if session.is_connected() { SOCKET_MESSAGE_BYTES_MAX } else { SOCKET_FIRST_POST_BYTES_MAX };
        let bytes = body::whole(&head.headers, body, bytes_max, &mut share).await?;
        let text = std::str::from_utf8(&bytes).map_err(|_| EngineError::BadRequest)?.into();
        let (answer, is_valid) = oneshot::channel();
        session.requests.try_send(SessionRequest::Post(text, answer)).map_err(|_| EngineError::BadRequest)?;
        match is_valid.await {
            Ok(true) => Ok((StatusCode::OK, [(header::CONTENT_TYPE, "text/html")], "ok").into_response()),
            Ok(false) | Err(_) => Err(EngineError::BadRequest.into()),
        }
    }
}

fn payload(packets: String) -> Response {
    let length = HeaderValue::from(packets.len());
    let mut answer = ([(header::CONTENT_TYPE, "text/plain; charset=UTF-8")], packets).into_response();
    // A large answer would be sent in chunks otherwise.
    answer.headers_mut().insert(header::CONTENT_LENGTH, length);
    answer
}

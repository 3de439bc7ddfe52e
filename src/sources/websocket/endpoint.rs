//! The requests for WebSockets: who may open one, to which stream its events lead, or that it only watches.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::Request;
use axum::response::Response;
use axum::routing::get;

use super::frame::Intake;
use super::section::WebSocketSource;
use super::session::{Opening, Session};
use super::sign_in::{self, Purpose, SUBPROTOCOL, SignIn};
use crate::admission::ScopeName;
use crate::http::websocket::Upgrade;
use crate::http::{Access, ApiError, Handshake, Peer, Share};
use crate::sources::SocketServices;

/// A source at a path of its own.
pub struct WebSocketEndpoint {
    source: WebSocketSource,
    intake: Arc<Intake>,
    services: SocketServices,
}

/// The sources of the native API, one for each stream.
pub fn routes(services: SocketServices) -> Router {
    Router::new()
        .route("/v1/streams/{stream}/socket", get(open))
        .route("/v1/live/socket", get(open_to_watch))
        .with_state(services)
}

async fn open_to_watch(
    State(services): State<SocketServices>,
    Extension(peer): Extension<Peer>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    accept(&services, Purpose::Watch, Access::Key, peer, request)
}

async fn open(
    State(services): State<SocketServices>,
    Path(stream): Path<String>,
    Extension(peer): Extension<Peer>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let intake = Intake { stream, ids: true, id_scope: None, window: None, corrections: true };
    accept(&services, Purpose::Send(Arc::new(intake)), Access::Key, peer, request)
}

impl WebSocketEndpoint {
    pub fn new(source: WebSocketSource, services: &SocketServices) -> Self {
        let intake = Intake {
            stream: source.stream.clone(),
            ids: source.ids,
            id_scope: source.id_scope.as_ref().map(|scope| ScopeName::as_str(scope).to_owned()),
            window: source.window.map(|window| window.0),
            corrections: false,
        };
        Self { source, intake: Arc::new(intake), services: services.clone() }
    }

    pub fn answer<B>(&self, peer: Peer, request: Request<B>) -> Response {
        let purpose = Purpose::Send(Arc::clone(&self.intake));
        let accepted = accept(&self.services, purpose, self.source.access, peer, request);
        accepted.unwrap_or_else(|error| error.in_words(&self.source.wording()))
    }
}

/// Answers a request for a WebSocket, and serves it. A client that shows no key where one is needed has to do so in
/// its first frame.
fn accept<B>(
    services: &SocketServices,
    purpose: Purpose,
    access: Access,
    peer: Peer,
    mut request: Request<B>,
) -> Result<Response, ApiError> {
    let upgrade = Upgrade::of(&mut request)?;
    let headers = request.headers();
    let presented = sign_in::of_request(headers);
    let signed_in = match SignIn::of(services, &purpose, presented, access == Access::Open) {
        Ok(signed_in) => Some(signed_in),
        Err(ApiError::Refused(_)) if presented.is_empty() => None,
        Err(error) => return Err(error),
    };
    let subprotocol = sign_in::offers_subprotocol(headers).then_some(SUBPROTOCOL);
    let handshake = Arc::new(Handshake::of(peer, headers).without_credentials());
    let place = match &purpose {
        Purpose::Send(_) => services.sockets.open(peer)?,
        Purpose::Watch => services.sockets.open_subscriber(peer)?,
    };
    let answer = upgrade.answer(subprotocol);
    let services = services.clone();
    tokio::spawn(async move {
        if let Some(socket) = upgrade.socket(Share::open(peer)).await {
            let opening = Opening { services, purpose, handshake, place, socket, signed_in };
            Session::new(opening).run().await;
        }
    });
    Ok(answer)
}

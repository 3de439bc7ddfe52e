//! The requests for WebSockets that bring events: who may open one, and to which stream it leads.

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
use super::sign_in::{self, SUBPROTOCOL};
use crate::admission::{Scope, ScopeName};
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
    Router::new().route("/v1/streams/{stream}/socket", get(open)).with_state(services)
}

async fn open(
    State(services): State<SocketServices>,
    Path(stream): Path<String>,
    Extension(peer): Extension<Peer>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let intake = Intake { stream, ids: true, id_scope: None, window: None, corrections: true };
    accept(&services, Arc::new(intake), Access::Key, peer, request)
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
        let accepted = accept(&self.services, Arc::clone(&self.intake), self.source.access, peer, request);
        accepted.unwrap_or_else(|error| error.in_words(&self.source.wording()))
    }
}

/// Answers a request for a WebSocket, and serves it. A client that shows no key where one is needed has to do so in
/// its first frame.
fn accept<B>(
    services: &SocketServices,
    intake: Arc<Intake>,
    access: Access,
    peer: Peer,
    mut request: Request<B>,
) -> Result<Response, ApiError> {
    let upgrade = Upgrade::of(&mut request)?;
    let headers = request.headers();
    let presented = sign_in::of_request(headers);
    let keys = &services.admission.keys;
    let (stream, open) = (Some(intake.stream.as_str()), access == Access::Open);
    let key = match keys.authorize_connection(presented, Scope::Send, stream, open) {
        Ok(authorized) => {
            services.admission.fields(&intake.stream)?;
            Some(authorized)
        }
        Err(_) if presented.is_empty() => None,
        Err(refusal) => return Err(refusal.into()),
    };
    let subprotocol = sign_in::offers_subprotocol(headers).then_some(SUBPROTOCOL);
    let handshake = Arc::new(Handshake::of(peer, headers).without_credentials());
    let place = services.sockets.open(peer)?;
    let answer = upgrade.answer(subprotocol);
    let services = services.clone();
    tokio::spawn(async move {
        if let Some(socket) = upgrade.socket(Share::open(peer)).await {
            let opening = Opening { services, intake, handshake, place, socket, key };
            Session::new(opening).run().await;
        }
    });
    Ok(answer)
}

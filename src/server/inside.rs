//! What lies behind the doorway: the declared doors, each found by its path, and everything else by way of
//! the router.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, Uri};
use axum::response::Response;
use tower_service::Service;

use super::answers::Answers;
use super::doors::Doors;
use super::doorway::{Doorway, is_preflight};
use crate::admit::{Peer, Refusal, body::AnyBody};

pub struct Inside {
    doorway: Arc<Doorway>,
    doors: Doors,
    routes: Router,
    answers: Answers,
}

impl Inside {
    /// Where nothing is, and what does not take the method, is answered as well.
    pub fn new(doorway: Doorway, doors: Doors, routes: Router) -> Self {
        let doorway = Arc::new(doorway);
        let at_the_fallback = Arc::clone(&doorway);
        let routes = routes
            .fallback(async move |uri: Uri| at_the_fallback.refuse(uri.path(), &Refusal::NoRoute))
            .method_not_allowed_fallback(|| async { Refusal::MethodNotAllowed.as_problem() });
        Self { doorway, doors, routes, answers: Answers::new() }
    }

    /// One request, past the doorway.
    pub async fn answer<B>(&self, connected: IpAddr, request: Request<B>) -> Response
    where
        B: AnyBody<Error: std::error::Error + Send + Sync> + Send + 'static,
    {
        let page = self.doorway.allowed_page(request.headers(), request.uri().path());
        // Of anything else the answer says what was done, and is given.
        let read = (request.method() == Method::GET).then(|| request.uri().path().to_owned());
        let answer = match (self.doorway.admit(connected, &request, page.as_ref()), &page) {
            (Err(refusal), _) => self.doorway.refuse(request.uri().path(), &refusal),
            (Ok(_), Some(page)) if is_preflight(&request) => page.preflight(),
            (Ok(peer), _) => match self.doors.get(request.uri().path()) {
                Some(door) => door.answer(peer, request).await,
                None => self.routed(peer, request.map(Body::new)).await,
            },
        };
        let answer = match read {
            Some(path) if Answers::is_large(&answer) => match Box::pin(self.answers.counted(answer)).await {
                Some(answer) => answer,
                None => self.doorway.refuse(&path, &Refusal::QueueFull),
            },
            _ => answer,
        };
        match page {
            Some(page) => page.may_see(answer),
            None => answer,
        }
    }

    async fn routed(&self, peer: Peer, mut request: Request<Body>) -> Response {
        request.extensions_mut().insert(peer);
        match self.routes.clone().call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

//! Routes requests that pass the guard: the paths of sources are looked up in a map, all other paths in axum's
//! router.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, Uri};
use axum::response::Response;
use tower_service::Service;

use super::request_guard::{RequestGuard, is_preflight};
use super::response_budget::ResponseBudget;
use super::route_policy::{SourceRoute, SourceRoutes};
use crate::admission::{Admission, Refusal};
use crate::http::ApiError;
use crate::http::{Peer, body::AnyBody};

pub struct RequestRouter {
    guard: Arc<RequestGuard>,
    admission: Arc<Admission>,
    sources: SourceRoutes,
    routes: Router,
    response_budget: ResponseBudget,
}

impl RequestRouter {
    /// Unknown paths and unsupported methods are answered here as well.
    pub fn new(
        guard: RequestGuard,
        admission: Arc<Admission>,
        sources: SourceRoutes,
        routes: Router,
    ) -> Self {
        let guard = Arc::new(guard);
        let fallback_guard = Arc::clone(&guard);
        let routes = routes
            .fallback(async move |uri: Uri| fallback_guard.refuse(uri.path(), ApiError::NoRoute))
            .method_not_allowed_fallback(|| async { ApiError::MethodNotAllowed });
        Self { guard, admission, sources, routes, response_budget: ResponseBudget::new() }
    }

    /// Handles one request from `connected`, the address at the other end of the connection.
    pub async fn answer<B>(&self, connected: IpAddr, request: Request<B>) -> Response
    where
        B: AnyBody<Error: std::error::Error + Send + Sync> + Send + 'static,
    {
        let page = self.guard.allowed_page(request.headers(), request.uri().path());
        let source = self.sources.get(request.uri().path());
        // Other responses report completed work, or bring answers to events, so they are never replaced by a 503.
        let is_read = request.method() == Method::GET && source.is_none();
        let read = is_read.then(|| request.uri().path().to_owned());
        let answer = match (self.guard.admit(connected, &request, page.as_ref()), &page) {
            (Err(error), _) => self.guard.refuse(request.uri().path(), error),
            (Ok(_), Some(page)) if is_preflight(&request) => page.preflight(),
            (Ok(peer), _) => match source {
                Some(SourceRoute::Http(source)) => source.answer(&self.admission, peer, request).await,
                Some(SourceRoute::SocketIo(endpoint)) => endpoint.answer(peer, request).await,
                Some(SourceRoute::WebSocket(endpoint)) => endpoint.answer(peer, request),
                None => self.routed(peer, request.map(Body::new)).await,
            },
        };
        let answer = match read {
            Some(path) if ResponseBudget::is_large(&answer) => {
                match Box::pin(self.response_budget.reserve(answer)).await {
                    Some(answer) => answer,
                    None => self.guard.refuse(&path, Refusal::Overloaded.into()),
                }
            }
            _ => answer,
        };
        match page {
            Some(page) => page.add_headers(answer),
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

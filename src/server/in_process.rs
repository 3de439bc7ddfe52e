//! A server without a socket: requests reach the same router, guard and node by a function call. Fuzzing uses it,
//! because a socket would cost more than the request.

use std::net::{IpAddr, Ipv4Addr};

use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use event::Stop;
use event::limits::SOCKETS_MAX;

use super::node::Node;
use super::router::RequestRouter;
use super::storage::Storage;
use super::{ServeError, Settings};
use crate::http::Sockets;
use crate::store::Password;
use crate::telemetry;

pub struct InProcess {
    node: Node,
    router: RequestRouter,
}

impl InProcess {
    pub async fn open(settings: &Settings) -> Result<Self, ServeError> {
        let password = Password::new(settings.config.store.password.clone());
        let storage = Storage::open(settings, &password).await?;
        let node = Node::open(settings, telemetry::start_metrics(), storage).await?;
        let stop = Stop::default();
        let router = node.router(settings, &stop, &Sockets::new(SOCKETS_MAX, SOCKETS_MAX, &stop));
        Ok(Self { node, router })
    }

    /// Handles a request as if it came from a client on this machine.
    pub async fn ask(&self, request: Request<Body>) -> Response {
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        self.router.answer(here, request).await
    }

    pub fn log_end(&self) -> u64 {
        self.node.log.end()
    }

    /// Waits for the views and stops, as a server does at a signal.
    pub async fn close(self) {
        let Self { node, .. } = self;
        drop(node.close(true).await);
    }
}

//! A server that nobody can connect to: the same node, and the same way to it past the doorway, asked by
//! a call instead of over a socket. For fuzzing, where a socket would cost more than the request.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::response::Response;

use super::connections::{answer, with_refusals};
use super::doorway::Doorway;
use super::{Node, ServeError, Settings};
use crate::event::Stop;
use crate::telemetry;

pub struct Indoors {
    node: Node,
    routes: Router,
    doorway: Arc<Doorway>,
}

impl Indoors {
    pub async fn open(settings: &Settings) -> Result<Self, ServeError> {
        let (node, _) = Node::open(settings, telemetry::start_metrics()).await?;
        let doorway = Arc::new(Doorway::new(settings, &node.keys));
        let routes = with_refusals(node.routes(settings, &Stop::default()), &doorway);
        Ok(Self { node, routes, doorway })
    }

    /// What a client on this machine would be answered.
    pub async fn ask(&self, request: Request<Body>) -> Response {
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        answer(&mut self.routes.clone(), &self.doorway, here, request).await
    }

    pub fn log_end(&self) -> u64 {
        self.node.log.end()
    }

    /// Waits for the views, as a server does that is told to stop.
    pub async fn close(self) {
        let Self { node, .. } = self;
        node.close(true).await;
    }
}

//! Views at the paths of contracts, each in its contract's shape; which view and which path is configuration.

mod row;
mod stats;

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::Reading;
use crate::admit::Refusal;

/// One path that shows a view.
pub struct Read {
    pub path: String,
    pub view: String,
    /// Whether without a key.
    pub open: bool,
    pub error_key: String,
    pub shape: Shape,
}

/// A closed set; each has a file.
pub enum Shape {
    Row,
    Stats { top: String },
}

/// What a handler knows.
#[derive(Clone)]
struct At {
    reading: Arc<Reading>,
    read: Arc<Read>,
}

pub fn routes(reading: &Arc<Reading>, read: Read) -> Router {
    let at = At { reading: Arc::clone(reading), read: Arc::new(read) };
    let read = Arc::clone(&at.read);
    let wrong_method = move || async move { Refusal::MethodNotAllowed.in_key(&read.error_key) };
    let route = match at.read.shape {
        Shape::Row => get(row::read),
        Shape::Stats { .. } => get(stats::read),
    };
    Router::new().route(&at.read.path.clone(), route.fallback(wrong_method)).with_state(at)
}

impl Read {
    /// Text that is JSON already: its numbers keep their digits, and its keys their order.
    fn answer(&self, outcome: Result<String, Refusal>) -> Response {
        match outcome {
            Ok(body) => {
                let json = HeaderValue::from_static("application/json");
                (StatusCode::OK, [(header::CONTENT_TYPE, json)], body).into_response()
            }
            Err(refusal) => refusal.in_key(&self.error_key),
        }
    }
}

//! The native source: `POST /v1/streams/{stream}/events` takes one object, an array, CloudEvents, or lines of JSON.

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::post;

use super::cloud_events::CloudEventMode;
use super::native_request::{Options, Request};
use super::{json_events, ndjson};
use crate::admission::IdScope;
use crate::http::{ApiError, Peer, Query, Sender, body};

pub use super::native_request::NativeSource;

pub const LINES: &str = "application/x-ndjson";

pub fn routes(native: NativeSource) -> Router {
    // A GET of the same path belongs to the reading API.
    Router::new().route("/v1/streams/{stream}/events", post(receive)).with_state(native)
}

async fn receive(
    sender: Sender,
    State(native): State<NativeSource>,
    Extension(peer): Extension<Peer>,
    Query(options): Query<Options>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let ids = IdScope { stream: &sender.stream, scope: sender.key.id_scope() };
    native.admission.fields(ids.stream)?;
    let request = Request { native: &native, ids, peer, headers: &headers, options };
    let kind = body::content_type(&headers);
    let cloud = CloudEventMode::of(&headers, kind)?;
    if cloud.is_none() && kind.eq_ignore_ascii_case(LINES) {
        ndjson::receive(&request, body).await
    } else if request.options.exported.is_some() {
        Err(ApiError::ContentType { expected: LINES })
    } else if cloud.is_some() || kind.eq_ignore_ascii_case(body::JSON) {
        json_events::receive(&request, body, cloud).await
    } else {
        Err(ApiError::ContentType { expected: "application/json or application/x-ndjson" })
    }
}

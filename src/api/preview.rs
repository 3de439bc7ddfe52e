//! `/v1/views/{view}/preview`: what a view would write or send for an event, without doing it.

use std::sync::Arc;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::routing::post;
use axum::{Json, Router};
use event::EventId;
use event::limits::EVENT_BYTES_MAX;
use serde_json::Value;

use super::Api;
use super::view_access::ViewReader;
use crate::http::{ApiError, Share, body};

pub fn routes(api: &Arc<Api>) -> Router {
    Router::new().route("/v1/views/{view}/preview", post(preview)).with_state(Arc::clone(api))
}

async fn preview(reader: ViewReader, headers: HeaderMap, body: Body) -> Result<Json<Value>, ApiError> {
    let text = body::whole(&headers, body, EVENT_BYTES_MAX, &mut Share::default()).await?;
    let text =
        std::str::from_utf8(&text).map_err(|_| ApiError::BrokenBody("it is not valid UTF-8".to_owned()))?;
    let running = reader.view();
    running.fields.check(text, false)?;
    // The event has no position, so it gets the id that the first event of the log has.
    let preview = running.view.preview(&running.fields, text, EventId::at(reader.api.log.id(), 0));
    preview.map(Json).map_err(|reason| ApiError::Parameter { name: "event", reason })
}

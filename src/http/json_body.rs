//! A small JSON object in the body of an administrator's request, read with the bounds of every body.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use event::json_in_plain_words;
use event::limits::KEY_BODY_BYTES_MAX;
use serde::de::DeserializeOwned;

use super::{ApiError, Share, body};

pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request<Body>, _: &S) -> Result<Self, ApiError> {
        let (head, body) = request.into_parts();
        body::expect_json(&head.headers)?;
        let bytes = body::whole(&head.headers, body, KEY_BODY_BYTES_MAX, &mut Share::default()).await?;
        let invalid = |reason| ApiError::Parameter { name: "body", reason };
        // The parser would take the items of an array for the values of an object.
        if bytes.trim_ascii_start().starts_with(b"[") {
            return Err(invalid("expected an object, got an array".to_owned()));
        }
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Self).map_err(|error| invalid(json_in_plain_words(&error.to_string())))
    }
}

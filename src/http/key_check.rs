//! Extractors for the sender of a request: each looks the presented key up and checks its scope, so that no handler
//! does it by hand.

use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::header;
use axum::http::request::Parts;

use super::{ApiError, body, credentials};
use crate::admission::{Key, Keys, Scope};

/// The state of a route whose extractors check keys.
pub trait HasKeys: Send + Sync {
    fn keys(&self) -> &Keys;
}

/// A sender of events: the key has the scope `send` for the stream in the path.
pub struct Sender {
    pub key: Arc<Key>,
    pub stream: String,
}

/// A reader of one stream: the key has the scope `read` for the stream in the path.
pub struct StreamReader {
    pub stream: String,
}

/// A reader of everything: the key has the scope `read` and is not bound to streams.
pub struct Reader;

/// An administrator. A body that comes with the request must declare itself as JSON, which a form of a web page cannot.
pub struct Administrator {
    pub key: Arc<Key>,
}

impl<S: HasKeys> FromRequestParts<S> for Sender {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let stream = path_parameter(parts, "stream").await;
        let presented = credentials(&parts.headers);
        let key = state.keys().authorize(presented, Scope::Send, Some(&stream), false)?;
        Ok(Self { key, stream })
    }
}

impl<S: HasKeys> FromRequestParts<S> for StreamReader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let stream = path_parameter(parts, "stream").await;
        state.keys().authorize(credentials(&parts.headers), Scope::Read, Some(&stream), false)?;
        Ok(Self { stream })
    }
}

impl<S: HasKeys> FromRequestParts<S> for Reader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        state.keys().authorize(credentials(&parts.headers), Scope::Read, None, false)?;
        Ok(Self)
    }
}

impl<S: HasKeys> FromRequestParts<S> for Administrator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let presented = credentials(&parts.headers);
        let key = state.keys().authorize(presented, Scope::Admin, None, false)?;
        let length = parts.headers.get(header::CONTENT_LENGTH);
        let has_body = parts.headers.contains_key(header::TRANSFER_ENCODING)
            || length.is_some_and(|length| length.as_bytes() != b"0");
        if has_body {
            body::expect_json(&parts.headers)?;
        }
        Ok(Self { key })
    }
}

/// Returns a parameter of the route's path; empty if the route has none of that name.
pub async fn path_parameter(parts: &mut Parts, name: &str) -> String {
    let Ok(parameters) = RawPathParams::from_request_parts(parts, &()).await else { return String::new() };
    parameters
        .iter()
        .find(|(known, _)| *known == name)
        .map_or_else(String::new, |(_, value)| value.to_owned())
}

//! `Idempotency-Key`: one name for all of a request. `Idempotent-Replayed`: the answer to a repeat says that it is one.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use event::limits::CLIENT_ID_CHARS_MAX;

use super::ApiError;

const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Marks the answer to a request whose events are all repeats.
pub fn replayed(mut answer: Response) -> Response {
    answer.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    answer
}

/// Returns the key; `None` without the header. Fails if the header is there twice with different values.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let invalid = |reason: &str| ApiError::Parameter { name: "Idempotency-Key", reason: reason.to_owned() };
    let mut values = headers.get_all("idempotency-key").iter();
    let first = values.next();
    if values.any(|value| Some(value) != first) {
        return Err(invalid("is given more than once"));
    }
    match first.map(|value| value.to_str()) {
        None => Ok(None),
        Some(Ok("")) => Err(invalid("is empty")),
        Some(Ok(key)) if key.len() > CLIENT_ID_CHARS_MAX => Err(invalid("is longer than 200 characters")),
        Some(Ok(key)) => Ok(Some(key)),
        Some(Err(_)) => Err(invalid("is not plain text")),
    }
}

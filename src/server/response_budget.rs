//! Limits the memory of large responses to reads. A response counts until its last byte is sent, so that clients who
//! request much and read nothing cannot use up the memory.

use std::sync::Arc;

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use event::limits::{RESPONSE_BYTES_SMALL_MAX, RESPONSES_BYTES_MAX};
use http_body_util::BodyExt;
use tokio::sync::Semaphore;

#[derive(Clone)]
pub struct ResponseBudget {
    /// One permit per byte.
    permits: Arc<Semaphore>,
}

/// Bytes of a response, and a value that is dropped when they have been sent.
pub struct HeldBytes<T> {
    pub bytes: Bytes,
    pub _held: T,
}

impl<T> AsRef<[u8]> for HeldBytes<T> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl ResponseBudget {
    pub fn new() -> Self {
        Self { permits: Arc::new(Semaphore::new(RESPONSES_BYTES_MAX)) }
    }

    /// Returns whether a response is long enough to be counted. A streamed one, which has no known length, is not.
    pub fn is_large(answer: &Response) -> bool {
        answer.body().size_hint().exact().is_some_and(|bytes| bytes > RESPONSE_BYTES_SMALL_MAX as u64)
    }

    /// Takes permits for a large response and returns it with them; `None` if too much memory is in use.
    pub async fn reserve(&self, answer: Response) -> Option<Response> {
        let (head, body) = answer.into_parts();
        let bytes = body.collect().await.ok()?.to_bytes();
        let count = u32::try_from(bytes.len()).ok()?;
        let permits = Arc::clone(&self.permits).try_acquire_many_owned(count).ok()?;
        let counted = Bytes::from_owner(HeldBytes { bytes, _held: permits });
        Some(Response::from_parts(head, Body::from(counted)))
    }
}

//! What waits for its reader: a large answer to a read is counted for as long as any of its bytes is held, so that
//! clients who ask for much and read nothing do not fill the memory.

use std::sync::Arc;

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use event::limits::{ANSWER_BYTES_SMALL_MAX, ANSWERS_BYTES_MAX};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

#[derive(Clone)]
pub struct ResponseBudget {
    room: Arc<Semaphore>,
}

/// Bytes of an answer, with their share of the room.
struct Held {
    bytes: Bytes,
    _share: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl ResponseBudget {
    pub fn new() -> Self {
        Self { room: Arc::new(Semaphore::new(ANSWERS_BYTES_MAX)) }
    }

    /// What is not made as it is read, and long enough to be counted.
    pub fn is_large(answer: &Response) -> bool {
        answer.body().size_hint().exact().is_some_and(|bytes| bytes > ANSWER_BYTES_SMALL_MAX as u64)
    }

    /// A large answer with its share; `None` where there is no room beside others.
    pub async fn counted(&self, answer: Response) -> Option<Response> {
        let (head, body) = answer.into_parts();
        let bytes = body.collect().await.ok()?.to_bytes();
        let share = Arc::clone(&self.room).try_acquire_many_owned(u32::try_from(bytes.len()).ok()?).ok()?;
        let held = Bytes::from_owner(Held { bytes, _share: share });
        Some(Response::from_parts(head, Body::from(held)))
    }
}

//! Why an erasure could not be recorded or carried out.

use crate::log::{AppendError, EraseError, ReadError};
use crate::store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum ErasureError {
    #[error("stream `{stream}` has no field `{field}` of text or integers")]
    Field { stream: String, field: String },
    #[error("{0}")]
    Log(#[from] AppendError),
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error("{0}")]
    Erase(#[from] EraseError),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("the server is stopping; the erasure continues at the next start")]
    Stopped,
}

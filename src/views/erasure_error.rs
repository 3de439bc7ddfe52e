//! Why an erasure could not be recorded or carried out.

use std::path::PathBuf;

use crate::log::{AppendError, EraseError, ReadError};
use crate::store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum ErasureError {
    #[error(
        "the key of erasure records, `{}`, cannot be used: {reason}; restore the file, or delete it to let a new key be made: earlier records can then not be found by their value any more",
        .path.display()
    )]
    Key { path: PathBuf, reason: String },
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

//! Why a rewrite failed.

use std::path::PathBuf;

use crate::disk::DiskError;
use crate::writer_command::WriterError;

/// Why the log was not, or not completely, rewritten. Segments after the one that failed are unchanged.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    #[error("cannot rewrite up to position {until}: the log is sealed up to {sealed_end}; seal it first")]
    NotSealed { until: u64, sealed_end: u64 },
    #[error("the {bytes} bytes at position {position} can only be replaced by as many, not by {bytes_new}")]
    OtherLength { position: u64, bytes: usize, bytes_new: usize },
    #[error("`{}` is corrupt at offset {offset}: {why}", file.display())]
    Corrupt { file: PathBuf, offset: u64, why: String },
    #[error(transparent)]
    Writer(#[from] WriterError),
    #[error(transparent)]
    Io(#[from] DiskError),
}

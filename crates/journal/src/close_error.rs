//! Why a log could not be closed cleanly.

/// Why the log could not be stopped cleanly. Acknowledged appends are durable nevertheless.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseError {
    #[error("the journal has failed and accepts no more appends: {reason}")]
    Poisoned { reason: String },
    #[error("the journal's writer panicked")]
    Panicked,
    #[error("the journal cannot be closed from its own writer thread; call `close` outside of callbacks")]
    OnWriterThread,
}

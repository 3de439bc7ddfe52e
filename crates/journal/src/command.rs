//! What somebody asks of the writer besides appends: to seal the last segment, or to move the log's
//! beginning. It is done between two groups; whoever asked waits for the answer.

use std::sync::mpsc::{self, Receiver, SyncSender};

use crate::queue::AppendError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Begin a new segment, if the last one holds a frame.
    Seal,
    /// Let the log begin here, where a segment begins.
    BeginAt(u64),
}

/// One question to the writer, and where its answer goes.
pub(crate) struct Command {
    pub work: Work,
    answer: SyncSender<Result<u64, WriterError>>,
}

/// Why the log's writer did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriterError {
    #[error("the journal's disk is full")]
    DiskFull,
    #[error("the journal is poisoned: {reason}")]
    Poisoned { reason: String },
    #[error("the journal is closed")]
    Closed,
    #[error("the journal cannot wait for its writer on the writer's own thread")]
    OnWriterThread,
}

impl Command {
    pub(crate) fn new(work: Work) -> (Self, Receiver<Result<u64, WriterError>>) {
        let (answer, receiver) = mpsc::sync_channel(1);
        (Self { work, answer }, receiver)
    }

    pub(crate) fn answer(self, outcome: Result<u64, WriterError>) {
        // Whoever asked waits, unless its thread was ended by a panic.
        let _ = self.answer.send(outcome);
    }
}

impl From<AppendError> for WriterError {
    /// What appends are refused with for good.
    fn from(refusal: AppendError) -> Self {
        match refusal {
            AppendError::Poisoned { reason } => Self::Poisoned { reason },
            _ => Self::Closed,
        }
    }
}

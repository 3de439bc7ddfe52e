//! Commands to the writer besides appends: seal the active segment, or move the log's beginning. The writer runs a
//! command between two groups, while the caller waits for the result.

use std::sync::mpsc::{self, Receiver, SyncSender};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Starts a new segment if the active one contains a frame.
    Seal,
    /// Moves the beginning of the log to this position, which is the first one of a segment.
    BeginAt(u64),
}

/// One command to the writer, and the channel for its result.
pub(crate) struct Command {
    pub work: Work,
    answer: SyncSender<Result<u64, WriterError>>,
}

/// Why the writer did not carry out a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriterError {
    #[error("the disk of the journal is full; free some space")]
    DiskFull,
    #[error("the journal has failed and accepts no more appends: {reason}")]
    Poisoned { reason: String },
    #[error("the journal is closed")]
    Closed,
    #[error("the journal cannot seal or trim from its own writer thread; call it outside of callbacks")]
    OnWriterThread,
}

impl Command {
    pub(crate) fn new(work: Work) -> (Self, Receiver<Result<u64, WriterError>>) {
        let (answer, receiver) = mpsc::sync_channel(1);
        (Self { work, answer }, receiver)
    }

    pub(crate) fn answer(self, outcome: Result<u64, WriterError>) {
        // The send fails only if a panic has ended the thread that waits.
        let _ = self.answer.send(outcome);
    }
}

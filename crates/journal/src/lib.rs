//! The embedded log of millrace: an append says yes only once its bytes are synced,
//! and what is damaged afterwards is noticed. Synchronous, no network, no unsafe.
//!
//! The walk of one append, and so of this crate:
//!
//! 1. [`Journal::append`] hands payload and count to the `queue`, which encodes a
//!    `frame` under a short lock and gives it the next position.
//! 2. The `writer` takes everything that gathered meanwhile as one group: one write to
//!    the last `segment`, one sync.
//! 3. It moves the durable end, tells the observer, notes in the `mark` file how far the
//!    log is durable, and calls whoever waits.
//! 4. A [`Reader`] finds the frame by position, and never one that is not synced.
//!
//! What is sealed may be rewritten in place ([`Journal::rewrite`], to forget what has to be
//! forgotten), and the oldest of it removed ([`Journal::trim`]); no position moves.
//!
//! When the process starts again, `survey` reads what is there and tells damage from a
//! torn tail, and `recover` rewrites the last segment before anything in it is served.
//! [`inspect()`] is the same survey of every byte; [`repair()`] mends what it found, and
//! says what is lost. FORMAT.md describes every byte on disk.

// The way of an append.
mod journal;

mod queue;

mod frame;

mod writer;

mod preallocate;

mod segment;

mod durable_mark;

mod reader;

// Copying it while it is written.
mod snapshot;
// What may be asked of an open log besides.
mod command;

mod files_check;

mod rewrite;

mod walk;

mod trim;

// Opening, inspecting, repairing.
mod survey;

mod scan;

mod recover;

mod inspect;

mod repair;

// What all of them stand on.
mod disk;
pub mod failpoint;
mod log_id;
mod options;

#[cfg(feature = "simulation")]
mod rng;

pub use command::WriterError;
pub use disk::{Disk, DiskError, Locked};
pub use frame::{Frame, FrameKind, PAYLOAD_BYTES_MAX};
pub use inspect::{Damage, InspectError, Inspection, TornTail, inspect};
pub use journal::{CloseError, Journal, Opened, SegmentInfo};
pub use log_id::{LogId, LogIdError};
pub use options::{Observer, Options, Signal};
pub use queue::{AppendError, Done};
pub use reader::{Chunk, ReadError, Reader};
pub use recover::{OpenError, Recovery};
pub use repair::{RepairError, Repaired, repair};
pub use rewrite::{RewriteError, Rewritten};
pub use snapshot::{Snapshot, SnapshotSegment};
pub use trim::TrimError;

/// What the crash tests run on.
#[cfg(feature = "simulation")]
pub mod simulation {
    pub use crate::disk::sim::SimDisk;
    pub use crate::journal::Stepper;
    pub use crate::rng::Rng;
}

//! The embedded, durable log of millrace. An append is acknowledged only after its bytes are synced, and later
//! damage to the files is detected. The crate is synchronous, has no network code and no unsafe code.
//!
//! The path of one append, which is also a tour of this crate:
//!
//! 1. [`Journal::append`] passes a payload and its count of events to the `queue`. The queue encodes a `frame`
//!    under a short lock and assigns the next position to it.
//! 2. The `writer` takes all frames that arrived in the meantime as one group. It does one write to the last
//!    `segment`, and one sync.
//! 3. The writer advances the durable end and calls the observer. Then it records in the `durable_mark` file how
//!    far the log is durable, and calls the callbacks of the appends.
//! 4. A [`Reader`] finds a frame by its position. It never returns a frame that is not synced.
//!
//! Payloads in sealed segments can be replaced ([`Journal::rewrite`]) to erase their content, and the oldest
//! segments can be removed ([`Journal::trim`]). Neither changes the position of an event.
//!
//! When the log is opened, `survey` reads the files and tells damage from a torn tail. Then `recover` rewrites the
//! last segment before anything in it is read. The function [`inspect()`] runs the same survey over every byte.
//! The function [`repair()`] repairs the damage that was found, and reports which events are lost. FORMAT.md
//! describes every byte on disk.

// Append and read.
mod durable_mark;
mod frame;
mod journal;
mod log_state;
mod preallocate;
mod queue;
mod reader;
mod segment;
mod writer;

// Seal, rewrite, trim, check and copy an open log.
mod close_error;
mod files_check;
mod rewrite;
mod rewrite_error;
mod snapshot;
mod trim;
mod walk;
mod writer_command;

// Open, inspect and repair a log.
mod damage;
mod inspect;
mod recover;
mod repair;
mod scan;
mod survey;

// Used by all modules above.
mod disk;
mod options;

#[cfg(feature = "simulation")]
mod rng;

pub use close_error::CloseError;
pub use damage::{Damage, TornTail};
pub use disk::{Disk, DiskError, Locked};
pub use event::LogId;
pub use frame::{Frame, FrameKind, PAYLOAD_BYTES_MAX};
pub use inspect::{InspectError, Inspection, inspect};
pub use journal::{Journal, Opened};
pub use log_state::SegmentInfo;
pub use options::{Observer, Options, Signal};
pub use queue::{AppendError, Done};
pub use reader::{Chunk, ReadError, Reader};
pub use recover::{OpenError, Recovery};
pub use repair::{RepairError, Repaired, repair};
pub use rewrite::Rewritten;
pub use rewrite_error::RewriteError;
pub use snapshot::{Snapshot, SnapshotSegment};
pub use survey::SurveyError;
pub use trim::TrimError;
pub use writer_command::WriterError;

/// The simulated disk and the single-step writer that the crash tests use.
#[cfg(feature = "simulation")]
pub mod simulation {
    pub use crate::disk::sim::SimDisk;
    pub use crate::journal::Stepper;
    pub use crate::rng::Rng;
}

//! What whoever opens a log may choose.

use std::sync::Arc;
use std::time::Duration;

/// Called from the writer's thread; it must not block.
pub type Observer = Arc<dyn Fn(Signal) + Send + Sync>;

/// What the log says while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// Positions below `end` are synced; how long the last sync took.
    Durable { end: u64, sync_time: Duration },
    /// The log takes nothing any more; the process should end.
    Poisoned { reason: String },
}

#[derive(Clone)]
pub struct Options {
    /// A segment that would grow beyond this is sealed, and another begun.
    pub segment_bytes_max: u64,
    /// How much one write and one sync may take. A single larger append is a group alone.
    pub group_bytes_max: usize,
    /// How much may wait to be written; beyond it appends are refused.
    pub queue_bytes_max: usize,
    /// How many bytes of sealed segments, newest first, are checked at open. The others
    /// are checked whenever they are read, and by `inspect`.
    pub verify_bytes_max: u64,
    pub observer: Observer,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes_max: 64 << 20,
            group_bytes_max: 8 << 20,
            queue_bytes_max: 32 << 20,
            verify_bytes_max: 1 << 30,
            observer: Arc::new(|_| {}),
        }
    }
}

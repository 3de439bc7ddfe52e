//! The options of a log.

use std::sync::Arc;
use std::time::Duration;

/// Receives signals on the writer's thread. It must not block.
pub type Observer = Arc<dyn Fn(Signal) + Send + Sync>;

/// A message from an open log to its observer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// All positions below `end` are synced. The last sync took `sync_time`.
    Durable { end: u64, sync_time: Duration },
    /// The log has failed and refuses all further appends. The process should end.
    Poisoned { reason: String },
}

#[derive(Clone)]
pub struct Options {
    /// A segment that would grow beyond this size is sealed, and a new one is started.
    pub segment_bytes_max: u64,
    /// The largest size of a group, which is one write and one sync. A larger append is a group alone.
    pub group_bytes_max: usize,
    /// The largest size of all queued appends. Appends beyond it are refused.
    pub queue_bytes_max: usize,
    /// The number of bytes of sealed segments, newest first, that open checks. Other bytes are checked when they
    /// are read, and by `inspect`.
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

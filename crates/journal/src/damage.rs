//! The two kinds of faults in the bytes of a log: damage, and a torn tail.

use std::path::PathBuf;

/// A part of the log that was durable but is damaged now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub file: PathBuf,
    pub offset: u64,
    pub why: String,
    /// The events at positions `lost_from..lost_to` cannot be read. If both are equal, no event is lost.
    pub lost_from: u64,
    pub lost_to: u64,
}

/// Bytes after the last event that were never synced, and so never acknowledged. They are not damage. Zeros may
/// follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    pub file: PathBuf,
    pub offset: u64,
    pub bytes: u64,
}

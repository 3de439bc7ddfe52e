//! The names of the deduplicator, which has a position in the store like a view.

/// Its name in metrics, logs and answers.
pub const DEDUP_NAME: &str = "dedup";

/// Its name in rows of the store and in records of the log. It is an older name, and must stay: the deduplicator
/// finds its stored position by it.
pub const DEDUP_STORED_NAME: &str = "gate";

/// Returns the name of a view, or of the deduplicator, for messages and answers.
pub fn shown_name(stored: &str) -> &str {
    if stored == DEDUP_STORED_NAME { DEDUP_NAME } else { stored }
}

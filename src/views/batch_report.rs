//! The lines about batches in the program log. The replaced services logged each batch, so a view with `batch` does,
//! too. A view without it may apply hundreds of batches per second, and logs them at debug level only.

use std::time::Instant;

use super::View;

/// Logs that a batch was read from the log.
pub fn received(view: &View, events: usize) {
    if view.batch.is_some() {
        tracing::info!(view = view.name, events, "batch received");
    } else {
        tracing::debug!(view = view.name, events, "batch received");
    }
}

/// Logs that a batch, which was read at `begun`, is stored: its events without those that became dead letters.
/// `position` is the position of the view after it.
pub fn saved(view: &View, events: usize, dead_letters: usize, position: u64, begun: Instant) {
    let milliseconds = begun.elapsed().as_millis() as u64;
    if view.batch.is_some() {
        tracing::info!(view = view.name, events, dead_letters, position, milliseconds, "batch saved");
    } else {
        tracing::debug!(view = view.name, events, dead_letters, position, milliseconds, "batch saved");
    }
}

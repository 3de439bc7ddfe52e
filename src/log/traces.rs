//! The W3C trace contexts of the records in one batch, for the few events that get a line in the program log: those
//! that became dead letters.

use std::ops::Range;

use event::EventId;
use event::limits::DEAD_LETTERS_LOGGED_MAX;

use super::Record;

/// The trace contexts of the records in one batch.
#[derive(Debug, Default)]
pub struct Traces {
    by_position: Vec<(Range<u64>, String)>,
}

impl Traces {
    /// Remembers the trace context of a record, if it has one.
    pub fn note(&mut self, record: &Record<'_>) {
        if let Some(trace) = record.header.as_ref().and_then(|header| header.trace) {
            self.by_position.push((record.position..record.end(), trace.to_owned()));
        }
    }

    /// Adds the trace contexts of the records that follow.
    pub fn append(&mut self, later: Self) {
        self.by_position.extend(later.by_position);
    }

    /// Returns the `traceparent` of the request with the event at `position`.
    pub fn of(&self, position: u64) -> Option<&str> {
        let found = self.by_position.iter().find(|(positions, _)| positions.contains(&position));
        found.map(|(_, trace)| trace.as_str())
    }

    /// Counts dead letters that were stored, and logs each of them, up to a limit. The reason is not logged, because
    /// it may quote the event; it is in the store.
    pub fn report_dead_letters(&self, view: &str, dead_letters: &[(EventId, u64)]) {
        metrics::counter!("millrace_dead_letters_total", "view" => view.to_owned())
            .increment(dead_letters.len() as u64);
        for (id, position) in dead_letters.iter().take(DEAD_LETTERS_LOGGED_MAX) {
            let traceparent = self.of(*position);
            tracing::warn!(view, dead_letter = %id, position, traceparent, "an event became a dead letter");
        }
        let more = dead_letters.len().saturating_sub(DEAD_LETTERS_LOGGED_MAX);
        if more > 0 {
            tracing::warn!(view, more, "more events became dead letters");
        }
    }
}

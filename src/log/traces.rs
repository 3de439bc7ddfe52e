//! The W3C trace contexts of the records in one batch, for the few events that get a line in the program log.

use std::ops::Range;

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

    /// Returns the `traceparent` of the request with the event at `position`.
    pub fn of(&self, position: u64) -> Option<&str> {
        let found = self.by_position.iter().find(|(positions, _)| positions.contains(&position));
        found.map(|(_, trace)| trace.as_str())
    }
}

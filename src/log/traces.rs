//! Which requests, of those read together, named a trace: for the few of their events that the log tells of.

use std::ops::Range;

use super::Record;

#[derive(Debug, Default)]
pub struct Traces {
    named: Vec<(Range<u64>, String)>,
}

impl Traces {
    pub fn note(&mut self, record: &Record<'_>) {
        if let Some(trace) = record.header.as_ref().and_then(|header| header.trace) {
            self.named.push((record.position..record.end(), trace.to_owned()));
        }
    }

    /// The `traceparent` of the request that brought the event at `position`.
    pub fn of(&self, position: u64) -> Option<&str> {
        let named = self.named.iter().find(|(positions, _)| positions.contains(&position));
        named.map(|(_, trace)| trace.as_str())
    }
}

//! The position of the last event of each stream, so that a view need not read events of other streams.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

/// The last positions of all streams. Dedup writes it before it publishes a position, and views read it afterwards.
#[derive(Clone, Default)]
pub struct StreamEnds {
    known: Arc<RwLock<KnownEnds>>,
}

#[derive(Default)]
struct KnownEnds {
    /// Every record from this position on is included, up to the position of dedup.
    from: Option<u64>,
    /// The end of the last record of each stream.
    ends: HashMap<String, u64>,
    /// The end of the last hole left by a repair. It counts for every stream, because the stream of a hole is
    /// unknown.
    of_all: u64,
}

impl StreamEnds {
    /// Sets the position at which dedup starts to read; records before it are unknown. After a failure dedup calls
    /// this again with a position that it has reached before, so the earlier value stays valid.
    pub fn begin(&self, from: u64) {
        event::write_lock(&self.known).from.get_or_insert(from);
    }

    pub fn note(&self, ends: RecordEnds<'_>) {
        let mut known = event::write_lock(&self.known);
        known.of_all = known.of_all.max(ends.of_all);
        for (stream, end) in ends.of {
            match known.ends.get_mut(stream) {
                Some(last) => *last = end.max(*last),
                None => drop(known.ends.insert(stream.to_owned(), end)),
            }
        }
    }

    /// Returns whether `stream` certainly has no event between `position` and the position of dedup.
    pub fn has_no_events_from(&self, stream: &str, position: u64) -> bool {
        let known = event::read_lock(&self.known);
        let last = known.ends.get(stream).copied().unwrap_or(0).max(known.of_all);
        known.from.is_some_and(|from| position >= from) && last <= position
    }
}

/// The end of the last record of each stream in one batch. It is a list, because a batch has few streams.
#[derive(Default)]
pub struct RecordEnds<'a> {
    of: Vec<(&'a str, u64)>,
    of_all: u64,
}

impl<'a> RecordEnds<'a> {
    pub fn note(&mut self, stream: Option<&'a str>, end: u64) {
        let Some(stream) = stream else {
            self.of_all = end;
            return;
        };
        match self.of.iter_mut().find(|(known, _)| *known == stream) {
            Some((_, last)) => *last = end,
            None => self.of.push((stream, end)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_empty_only_from_its_last_event_on_and_where_records_were_read() {
        let streams = StreamEnds::default();
        assert!(!streams.has_no_events_from("a", 10), "before the first read");
        streams.begin(10);
        let mut ends = RecordEnds::default();
        ends.note(Some("a"), 12);
        ends.note(Some("b"), 13);
        ends.note(Some("a"), 15);
        streams.note(ends);
        assert!(
            !streams.has_no_events_from("b", 9) && !streams.has_no_events_from("c", 9),
            "before the beginning"
        );
        assert!(!streams.has_no_events_from("b", 12) && streams.has_no_events_from("b", 13));
        assert!(!streams.has_no_events_from("a", 14) && streams.has_no_events_from("a", 15));
        assert!(streams.has_no_events_from("c", 10));
        let mut ends = RecordEnds::default();
        ends.note(None, 20);
        streams.note(ends);
        assert!(!streams.has_no_events_from("c", 19), "a hole counts for every stream");
        assert!(streams.has_no_events_from("c", 20));
    }
}

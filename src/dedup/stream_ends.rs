//! Which streams have had events since when, so that a view is not made to read what is not its own.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

/// Written by the gate before it lets others pass, read by views after.
#[derive(Clone, Default)]
pub struct StreamEnds {
    known: Arc<RwLock<KnownEnds>>,
}

#[derive(Default)]
struct KnownEnds {
    /// From this position on, every record that passed was looked at.
    from: Option<u64>,
    /// Where the last record of each stream ends.
    ends: HashMap<String, u64>,
    /// Where the last ends that is every stream's affair: a hole left by a repair.
    of_all: u64,
}

impl StreamEnds {
    /// Reading begins at `from`: what lies before is not known. Begun again after a failure, the gate reads
    /// on from a place that it has come to before, and all that was noted holds.
    pub fn begin(&self, from: u64) {
        self.known.write().expect("no panic while holding the lock").from.get_or_insert(from);
    }

    pub fn note(&self, ends: RecordEnds<'_>) {
        let mut known = self.known.write().expect("no panic while holding the lock");
        known.of_all = known.of_all.max(ends.of_all);
        for (stream, end) in ends.of {
            match known.ends.get_mut(stream) {
                Some(last) => *last = end.max(*last),
                None => drop(known.ends.insert(stream.to_owned(), end)),
            }
        }
    }

    /// Whether `stream` is known to have no event from `position` on, in what has passed.
    pub fn nothing_from(&self, stream: &str, position: u64) -> bool {
        let known = self.known.read().expect("no panic while holding the lock");
        let last = known.ends.get(stream).copied().unwrap_or(0).max(known.of_all);
        known.from.is_some_and(|from| position >= from) && last <= position
    }
}

/// Where the last record of each stream ends, of some records; few streams are met at one time.
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
    fn only_what_was_looked_at_is_known_to_be_empty() {
        let streams = StreamEnds::default();
        assert!(!streams.nothing_from("a", 10), "not begun");
        streams.begin(10);
        let mut ends = RecordEnds::default();
        ends.note(Some("a"), 12);
        ends.note(Some("b"), 13);
        ends.note(Some("a"), 15);
        streams.note(ends);
        assert!(!streams.nothing_from("b", 9) && !streams.nothing_from("c", 9), "before the beginning");
        assert!(!streams.nothing_from("b", 12) && streams.nothing_from("b", 13));
        assert!(!streams.nothing_from("a", 14) && streams.nothing_from("a", 15));
        assert!(streams.nothing_from("c", 10));
        let mut ends = RecordEnds::default();
        ends.note(None, 20);
        streams.note(ends);
        assert!(!streams.nothing_from("c", 19) && streams.nothing_from("c", 20), "a hole is everybody's");
    }
}

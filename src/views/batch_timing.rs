//! Decides when a view with `batch` applies its waiting events. This file does no I/O and reads no clock.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Instant;

use super::batch_rule::BatchRule;

/// The events of a view that wait for company, by their positions in the log. Positions of other streams do not count.
pub struct Waiting {
    runs: VecDeque<Run>,
    events: u64,
    /// Events below this position are counted.
    counted: u64,
    /// The last time at which all events that dedup had passed were counted. Events that are counted later became
    /// ready after it, so that none waits for longer than its age, however long the view was busy in between.
    caught_up: Instant,
    /// Events below this position do not wait.
    urgent: u64,
}

/// Consecutive events that were found together. There are never more runs than events.
struct Run {
    positions: Range<u64>,
    /// No event of the run was ready before this time.
    ready: Instant,
}

impl Waiting {
    pub fn new(now: Instant) -> Self {
        Self { runs: VecDeque::new(), events: 0, counted: 0, caught_up: now, urgent: 0 }
    }

    /// Forgets all events, because the view continues at position `at` after a failure. Events that had been counted do
    /// not wait again: the next attempt must show whether the failure is over.
    pub fn restart(&mut self, at: u64) {
        self.urgent = self.urgent.max(self.counted);
        if let Some(oldest) = self.runs.front() {
            self.caught_up = oldest.ready;
        }
        (self.events, self.counted) = (0, at);
        self.runs.clear();
    }

    /// Returns the position up to which events are counted.
    pub fn counted(&self) -> u64 {
        self.counted
    }

    pub fn events(&self) -> u64 {
        self.events
    }

    /// Adds the events that lie before position `end`, behind those that are counted already.
    pub fn count(&mut self, found: impl IntoIterator<Item = Range<u64>>, end: u64) {
        for positions in found {
            self.events += positions.end - positions.start;
            match self.runs.back_mut() {
                Some(last) if last.positions.end == positions.start && last.ready == self.caught_up => {
                    last.positions.end = positions.end;
                }
                _ => self.runs.push_back(Run { positions, ready: self.caught_up }),
            }
        }
        self.counted = self.counted.max(end);
    }

    /// Notes that all events that were ready at `now` are counted.
    pub fn note_caught_up(&mut self, now: Instant) {
        self.caught_up = now;
    }

    /// Lets no event below `position` wait.
    pub fn hurry(&mut self, position: u64) {
        self.urgent = self.urgent.max(position);
    }

    /// Removes the events below `position`, which are applied.
    pub fn remove_applied(&mut self, position: u64) {
        while let Some(first) = self.runs.front_mut().filter(|first| first.positions.start < position) {
            let end = first.positions.end.min(position);
            self.events -= end - first.positions.start;
            first.positions.start = end;
            if first.positions.is_empty() {
                self.runs.pop_front();
            }
        }
    }

    /// Returns the position of the first waiting event at or after `position`.
    pub fn next_from(&self, position: u64) -> Option<u64> {
        let after = self.runs.partition_point(|run| run.positions.end <= position);
        self.runs.get(after).map(|run| run.positions.start.max(position))
    }

    /// Returns the position before which the view has nothing to apply.
    pub fn begin(&self) -> u64 {
        self.next_from(0).unwrap_or(self.counted)
    }

    /// Returns whether there are as many events as one batch may have.
    pub fn is_full(&self, rule: BatchRule) -> bool {
        self.events >= rule.events as u64
    }

    /// Returns when the next batch is due, which may be in the past. Returns `None` if no event waits.
    pub fn due(&self, rule: BatchRule) -> Option<Instant> {
        let oldest = self.runs.front()?;
        let is_due = self.is_full(rule) || oldest.positions.start < self.urgent;
        Some(if is_due { oldest.ready } else { oldest.ready + rule.age })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RULE: BatchRule = BatchRule { events: 10, age: Duration::from_secs(5) };

    /// Returns the time of the start, and a function that returns a later time.
    fn clock() -> (Instant, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        (start, move |seconds| start + Duration::from_secs(seconds))
    }

    #[test]
    fn a_batch_is_due_when_its_oldest_event_has_the_age() {
        let (start, at) = clock();
        let mut waiting = Waiting::new(start);
        assert_eq!(waiting.due(RULE), None);
        waiting.note_caught_up(at(100));
        waiting.count(Some(7..8), 9);
        waiting.note_caught_up(at(103));
        waiting.count(Some(9..11), 11);
        assert_eq!(waiting.due(RULE), Some(at(105)));
        assert_eq!((waiting.begin(), waiting.events(), waiting.counted()), (7, 3, 11));
        waiting.remove_applied(9);
        assert_eq!(waiting.due(RULE), Some(at(108)), "the later events have their own age");
        waiting.remove_applied(11);
        assert_eq!((waiting.due(RULE), waiting.begin(), waiting.events()), (None, 11, 0));
    }

    #[test]
    fn a_batch_is_due_at_once_when_there_are_enough_events_of_the_view() {
        let (start, at) = clock();
        let mut waiting = Waiting::new(start);
        waiting.note_caught_up(at(1));
        waiting.count(Some(0..9), 1_000);
        assert!(!waiting.is_full(RULE) && waiting.due(RULE) == Some(at(6)), "positions of other streams");
        waiting.note_caught_up(at(2));
        waiting.count(Some(1_000..1_004), 1_004);
        assert!(waiting.is_full(RULE) && waiting.due(RULE) <= Some(at(2)));
        waiting.remove_applied(1_001);
        assert_eq!((waiting.events(), waiting.due(RULE)), (3, Some(at(7))), "the rest waits");
    }

    #[test]
    fn events_that_came_while_the_view_was_busy_are_as_old_as_they_can_be() {
        let (start, at) = clock();
        let mut waiting = Waiting::new(start);
        waiting.note_caught_up(at(10));
        // The view was busy until 60. Some of these events may be ready since 10.
        waiting.count(Some(0..3), 3);
        assert_eq!(waiting.due(RULE), Some(at(15)));
    }

    #[test]
    fn urgent_events_do_not_wait_and_later_ones_do() {
        let (start, at) = clock();
        let mut waiting = Waiting::new(start);
        waiting.note_caught_up(at(1));
        waiting.count(Some(4..6), 6);
        waiting.hurry(4);
        assert_eq!(waiting.due(RULE), Some(at(6)));
        waiting.hurry(5);
        assert_eq!(waiting.due(RULE), Some(at(1)));
        waiting.remove_applied(6);
        waiting.note_caught_up(at(2));
        waiting.count(Some(6..7), 7);
        assert_eq!(waiting.due(RULE), Some(at(7)));
    }

    #[test]
    fn after_a_failure_events_that_waited_are_tried_at_once_and_later_ones_keep_their_age() {
        let (start, at) = clock();
        let mut waiting = Waiting::new(start);
        waiting.note_caught_up(at(1));
        waiting.count(Some(4..6), 6);
        waiting.note_caught_up(at(2));
        waiting.restart(4);
        assert_eq!((waiting.counted(), waiting.events(), waiting.due(RULE)), (4, 0, None));
        waiting.count([4..6, 8..9], 9);
        assert_eq!(waiting.due(RULE), Some(at(1)));
        waiting.remove_applied(6);
        assert_eq!(waiting.due(RULE), Some(at(6)));
    }

    #[test]
    fn the_next_waiting_event_is_found_across_gaps() {
        let (start, at) = clock();
        let mut waiting = Waiting::new(start);
        waiting.count([2..4, 4..5, 9..10], 12);
        assert_eq!(waiting.runs.len(), 2, "adjacent events are one run");
        waiting.note_caught_up(at(1));
        waiting.count(Some(12..13), 13);
        let next = |position| waiting.next_from(position);
        assert_eq!([next(0), next(3), next(5), next(10)], [Some(2), Some(3), Some(9), Some(12)]);
        assert_eq!(next(13), None);
    }
}

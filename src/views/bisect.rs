//! Finds the event that the database rejects. A rejected batch is halved, and the halves are tried in order until the
//! rejected part is a single event. This code does no I/O: it only decides which part to try next.

use std::ops::Range;

/// The parts of a batch that are still to be applied. The next one is the last element.
pub struct Bisect {
    open: Vec<Range<usize>>,
}

impl Bisect {
    pub fn new(events: usize) -> Self {
        Self { open: std::iter::once(0..events).filter(|part| !part.is_empty()).collect() }
    }

    /// Returns the part to try next.
    pub fn next(&mut self) -> Option<Range<usize>> {
        self.open.pop()
    }

    /// Schedules the halves of a rejected part to be tried next. Returns `false` if the part is a single event.
    pub fn refused(&mut self, part: Range<usize>) -> bool {
        if part.len() < 2 {
            return false;
        }
        let middle = part.start + part.len() / 2;
        self.open.push(middle..part.end);
        self.open.push(part.start..middle);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn each_event_is_tried_in_order_and_only_bad_events_are_isolated(
            bad in proptest::collection::vec(proptest::bool::weighted(0.1), 1..200),
        ) {
            let mut bisect = Bisect::new(bad.len());
            let (mut passed, mut isolated, mut tries) = (Vec::new(), Vec::new(), 0);
            while let Some(part) = bisect.next() {
                tries += 1;
                if bad[part.clone()].iter().any(|bad| *bad) && bisect.refused(part.clone()) {
                    continue;
                }
                if bad[part.start] {
                    isolated.push(part.start);
                }
                passed.extend(part);
            }
            proptest::prop_assert_eq!(passed, (0..bad.len()).collect::<Vec<_>>());
            let expected: Vec<usize> = (0..bad.len()).filter(|index| bad[*index]).collect();
            proptest::prop_assert_eq!(&isolated, &expected);
            proptest::prop_assert!(tries <= 1 + expected.len() * 2 * 8);
        }
    }
}

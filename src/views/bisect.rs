//! Finds the one event that the database would not take: halves of a refused batch are tried by
//! themselves, in order, until the refused part is a single event. Pure: it says what to try next.

use std::ops::Range;

/// The parts of a batch that are still to be applied, the next one last.
pub struct Bisect {
    open: Vec<Range<usize>>,
}

impl Bisect {
    pub fn new(events: usize) -> Self {
        Self { open: std::iter::once(0..events).filter(|part| !part.is_empty()).collect() }
    }

    /// The part to try now.
    pub fn next(&mut self) -> Option<Range<usize>> {
        self.open.pop()
    }

    /// `part` was refused: its halves come next. `false` if it is one event and cannot be halved.
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
        fn every_event_is_passed_once_in_order_and_only_the_bad_ones_alone(bad in proptest::collection::vec(proptest::bool::weighted(0.1), 1..200)) {
            let mut bisect = Bisect::new(bad.len());
            let (mut passed, mut singled, mut tries) = (Vec::new(), Vec::new(), 0);
            while let Some(part) = bisect.next() {
                tries += 1;
                if bad[part.clone()].iter().any(|bad| *bad) && bisect.refused(part.clone()) {
                    continue;
                }
                if bad[part.start] {
                    singled.push(part.start);
                }
                passed.extend(part);
            }
            proptest::prop_assert_eq!(passed, (0..bad.len()).collect::<Vec<_>>());
            let expected: Vec<usize> = (0..bad.len()).filter(|index| bad[*index]).collect();
            proptest::prop_assert_eq!(&singled, &expected);
            proptest::prop_assert!(tries <= 1 + expected.len() * 2 * 8);
        }
    }
}

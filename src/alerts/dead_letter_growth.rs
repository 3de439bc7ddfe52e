//! Whether the number of open dead letters grows. A team may keep old ones; only new ones are an alert.

use event::Millis;
use event::limits::DEAD_LETTERS_QUIET_DURATION;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterGrowth {
    /// The open dead letters that nobody has to be told of.
    known: i64,
    growing: Option<Growing>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Growing {
    most: i64,
    /// When the last one was added.
    at: Millis,
}

impl DeadLetterGrowth {
    /// Notes the number of open dead letters, and returns how many of them are new. There are no new ones any more once they
    /// are handled, or if none was added for a long time.
    pub fn note(&mut self, open: i64, now: Millis) -> Option<i64> {
        let most = self.growing.as_ref().map_or(self.known, |growing| growing.most);
        if open > most {
            self.growing = Some(Growing { most: open, at: now });
        }
        let quiet = DEAD_LETTERS_QUIET_DURATION.as_millis() as i64;
        match &self.growing {
            Some(growing) if open > self.known && now.0 - growing.at.0 < quiet => Some(open - self.known),
            _ => {
                *self = Self { known: open, growing: None };
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_dead_letters_count_until_they_are_handled() {
        let mut growth = DeadLetterGrowth { known: 10, growing: None };
        let mut note = |open, at| growth.note(open, Millis(at));
        assert_eq!([note(10, 0), note(11, 1), note(13, 2), note(12, 3)], [None, Some(1), Some(3), Some(2)]);
        assert_eq!([note(10, 4), note(4, 5), note(5, 6)], [None, None, Some(1)]);
    }

    #[test]
    fn dead_letters_to_which_none_was_added_for_a_long_time_are_not_new() {
        let quiet = DEAD_LETTERS_QUIET_DURATION.as_millis() as i64;
        let mut growth = DeadLetterGrowth::default();
        let mut note = |open, at| growth.note(open, Millis(at));
        assert_eq!([note(1, 0), note(2, quiet - 1), note(2, quiet)], [Some(1), Some(2), Some(2)]);
        assert_eq!(
            [note(2, 2 * quiet), note(2, 2 * quiet + 1), note(3, 2 * quiet + 2)],
            [None, None, Some(1)]
        );
    }
}

//! The place of a subscriber: what it has been told so far. Subscribers get it as an opaque text, and send it back when
//! they come again.

use std::fmt;
use std::str::FromStr;

use event::LogId;

use crate::store::{Generation, ViewPosition};

/// A position in each log that feeds a view, or in the one log of a stream, with the generation of the view's rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    pub generation: Generation,
    positions: Vec<(LogId, u64)>,
}

/// A text that is not a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotACursor;

impl Cursor {
    /// Returns a place in a log.
    pub fn in_log(log: LogId, position: u64) -> Self {
        Self { generation: Generation::default(), positions: vec![(log, position)] }
    }

    /// Returns the place after everything that a view has applied.
    pub fn after(positions: &[ViewPosition]) -> Self {
        // All rows of a view change their generation together, but not at the very same moment.
        let generation = positions.iter().map(|row| row.generation).max().unwrap_or_default();
        Self { generation, positions: positions.iter().map(|row| (row.log, row.position)).collect() }
    }

    /// Returns the position in a log; 0 for a log that the cursor does not know, because all of it is new then.
    pub fn position(&self, log: LogId) -> u64 {
        self.positions.iter().find(|(known, _)| *known == log).map_or(0, |(_, position)| *position)
    }

    /// Moves the place in a log.
    pub fn set_position(&mut self, log: LogId, position: u64) {
        match self.positions.iter_mut().find(|(known, _)| *known == log) {
            Some((_, known)) => *known = position,
            None => self.positions.push((log, position)),
        }
    }

    /// Moves the place to `other`, and nowhere back.
    pub fn advance_to(&mut self, other: &Self) {
        self.generation = self.generation.max(other.generation);
        for (log, position) in &other.positions {
            self.set_position(*log, self.position(*log).max(*position));
        }
    }

    pub fn positions(&self) -> &[(LogId, u64)] {
        &self.positions
    }

    /// Returns whether everything before `other` is before this place, too.
    pub fn has_reached(&self, other: &Self) -> bool {
        other.positions.iter().all(|(log, position)| self.position(*log) >= *position)
    }

    /// Returns how many positions `other` is ahead of this place.
    pub fn behind(&self, other: &Self) -> u64 {
        other.positions.iter().map(|(log, position)| position.saturating_sub(self.position(*log))).sum()
    }

    /// Returns whether rows that were read at this place may have been replaced or erased since. Before a view has begun,
    /// there are none. The rows of an earlier millrace have generation 0 until their view begins.
    pub fn is_replaced_by(&self, generation: Generation) -> bool {
        !self.positions.is_empty() && self.generation != generation
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.generation.0)?;
        self.positions.iter().try_for_each(|(log, position)| write!(f, ".{log}.{position}"))
    }
}

impl FromStr for Cursor {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Self, NotACursor> {
        let mut parts = text.split('.');
        let generation = parts.next().and_then(|text| text.parse().ok()).ok_or(NotACursor)?;
        let mut cursor = Self { generation: Generation(generation), positions: Vec::new() };
        while let Some(log) = parts.next() {
            let log = log.parse().map_err(|_| NotACursor)?;
            let position = parts.next().and_then(|text| text.parse().ok()).ok_or(NotACursor)?;
            cursor.positions.push((log, position));
        }
        Ok(cursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: LogId = LogId([1; 16]);
    const TWO: LogId = LogId([2; 16]);

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_other_texts_are_refused() {
        let mut cursor = Cursor::in_log(ONE, 5);
        cursor.set_position(TWO, u64::MAX);
        cursor.generation = Generation(1_764_538_123_456);
        for cursor in [cursor, Cursor::default(), Cursor::in_log(TWO, 0)] {
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for text in ["", "x", "0.", "0.1", "0.01.2", &format!("0.{ONE}"), &format!("0.{ONE}.x"), "0.1.2.3"] {
            assert_eq!(text.parse::<Cursor>(), Err(NotACursor), "{text}");
        }
    }

    #[test]
    fn a_cursor_that_lacks_a_log_has_not_reached_its_events() {
        let (mut cursor, mut end) = (Cursor::in_log(ONE, 5), Cursor::in_log(ONE, 5));
        assert!(cursor.has_reached(&end) && cursor.behind(&end) == 0);
        end.set_position(TWO, 3);
        assert!(!cursor.has_reached(&end) && end.has_reached(&cursor));
        assert_eq!((cursor.behind(&end), end.behind(&cursor)), (3, 0));
        cursor.set_position(TWO, 4);
        assert!(cursor.has_reached(&end));
    }
}

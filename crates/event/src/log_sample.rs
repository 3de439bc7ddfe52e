//! Log lines of which there may be very many: some are written each second, and the others are counted.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The lines of one kind in a second.
const LINES_PER_SECOND_MAX: u32 = 10;

pub struct LogSample(Mutex<Window>);

struct Window {
    begun: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl LogSample {
    pub const fn new() -> Self {
        Self(Mutex::new(Window { begun: None, written: 0, left_out: 0 }))
    }

    /// Returns whether a line is to be written now, with the number of lines that were left out before it. Otherwise
    /// counts it as left out.
    pub fn next(&self) -> Option<u64> {
        crate::lock(&self.0).next(Instant::now())
    }
}

impl Default for LogSample {
    fn default() -> Self {
        Self::new()
    }
}

impl Window {
    fn next(&mut self, now: Instant) -> Option<u64> {
        if self.begun.is_none_or(|begun| now >= begun + Duration::from_secs(1)) {
            (self.begun, self.written) = (Some(now), 0);
        }
        if self.written == LINES_PER_SECOND_MAX {
            self.left_out += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_first_of_a_second_are_counted() {
        let mut window = Window { begun: None, written: 0, left_out: 0 };
        let now = Instant::now();
        for _ in 0..LINES_PER_SECOND_MAX {
            assert_eq!(window.next(now), Some(0));
        }
        assert_eq!((window.next(now), window.next(now)), (None, None));
        assert_eq!(window.next(now + Duration::from_secs(1)), Some(2));
        assert_eq!(window.next(now + Duration::from_secs(1)), Some(0));
    }
}

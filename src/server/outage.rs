//! When an outage is reported: once when it is certain, then at intervals, and once when it is over. This code has no
//! clock: the caller says what time it is.

use std::time::{Duration, Instant};

const REMINDER_INTERVAL: Duration = Duration::from_secs(60);

/// The outages of one thing, such as the database or a view.
#[derive(Debug, Default)]
pub struct Outage {
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    began: Instant,
    reported: Option<Instant>,
}

/// A line for the program log.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    Begins,
    Continues { lasted: Duration },
    Ends { lasted: Duration },
}

impl Outage {
    /// Returns an outage that began now and that somebody else has reported.
    pub fn reported(now: Instant) -> Self {
        Self { current: Some(Current { began: now, reported: Some(now) }) }
    }

    /// Notes a failure, and returns the line that is due. The first line waits until the failure has lasted for
    /// `certain_after`, so that a short disturbance is not reported.
    pub fn note_failure(&mut self, now: Instant, certain_after: Duration) -> Option<Line> {
        let current = self.current.get_or_insert(Current { began: now, reported: None });
        let lasted = now - current.began;
        let line = match current.reported {
            None if lasted >= certain_after => Line::Begins,
            Some(reported) if now - reported >= REMINDER_INTERVAL => Line::Continues { lasted },
            _ => return None,
        };
        current.reported = Some(now);
        Some(line)
    }

    /// Notes that the thing works. Returns a line if its outage was reported.
    pub fn note_success(&mut self, now: Instant) -> Option<Line> {
        let ended = self.current.take()?;
        ended.reported.map(|_| Line::Ends { lasted: now - ended.began })
    }

    /// Returns whether an outage was reported and is not over.
    pub fn is_reported(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.reported.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_reported_once_then_each_minute_and_at_its_end() {
        let (mut outage, start) = (Outage::default(), Instant::now());
        let (at, certain) = (|seconds| start + Duration::from_secs(seconds), Duration::from_secs(2));
        assert_eq!(outage.note_failure(at(0), certain), None);
        assert_eq!(outage.note_failure(at(1), certain), None);
        assert_eq!(outage.note_failure(at(2), certain), Some(Line::Begins));
        assert!(outage.is_reported());
        assert_eq!((3..62).find_map(|second| outage.note_failure(at(second), certain)), None);
        let lasted = Duration::from_secs(62);
        assert_eq!(outage.note_failure(at(62), certain), Some(Line::Continues { lasted }));
        assert_eq!(outage.note_failure(at(121), certain), None);
        let lasted = Duration::from_secs(130);
        assert_eq!(outage.note_success(at(130)), Some(Line::Ends { lasted }));
        assert_eq!(outage.note_success(at(131)), None);
        assert_eq!(outage.note_failure(at(140), Duration::ZERO), Some(Line::Begins), "a new outage");
    }

    #[test]
    fn a_short_disturbance_is_not_reported() {
        let (mut outage, start) = (Outage::default(), Instant::now());
        assert_eq!(outage.note_failure(start, Duration::from_secs(2)), None);
        assert_eq!(outage.note_success(start + Duration::from_secs(1)), None);
        assert!(!outage.is_reported());
    }
}

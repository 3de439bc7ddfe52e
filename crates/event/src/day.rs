//! The UTC days that statistics count by. A day is a number of the form 20251101.

use std::fmt;
use std::str::FromStr;

use super::Millis;

/// One UTC day, from 0001-01-01 to 9999-12-31.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(i32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a day such as 2025-11-01")]
pub struct DayError;

impl Day {
    pub const FIRST: Self = Self(10_101);
    pub const LAST: Self = Self(99_991_231);

    /// Returns the day of a time. A time before the first day gets the first day, because 0 is not a valid day.
    pub fn of(time: Millis) -> Self {
        Self::exactly(time).unwrap_or(Self::FIRST)
    }

    fn exactly(time: Millis) -> Option<Self> {
        // Not with `jiff::Timestamp`, which ends a day before the last one that is accepted.
        let (year, month, day) = Millis::from_epoch(time.0).ok()?.date();
        Some(Self((year * 10_000) as i32 + (month * 100 + day) as i32))
    }

    /// Returns the number that is stored, such as 20251101.
    pub fn number(self) -> i64 {
        i64::from(self.0)
    }
}

impl FromStr for Day {
    type Err = DayError;
    /// Parses a date, or a time, which gives its UTC day.
    fn from_str(text: &str) -> Result<Self, DayError> {
        text.parse::<Millis>().ok().and_then(Self::exactly).ok_or(DayError)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.0 / 10_000, self.0 / 100 % 100, self.0 % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_gives_its_utc_day() {
        for (text, number, shown) in [
            ("2025-11-01", 20_251_101, "2025-11-01"),
            ("2025-11-01T00:30:00+01:00", 20_251_031, "2025-10-31"),
            ("2025-10-31T23:59:59.999Z", 20_251_031, "2025-10-31"),
            ("0001-01-01", 10_101, "0001-01-01"),
            ("9999-12-31T23:59:59.999Z", 99_991_231, "9999-12-31"),
        ] {
            let day: Day = text.parse().expect(text);
            assert_eq!((day.number(), day.to_string().as_str()), (number, shown), "{text}");
        }
        for text in
            ["", "2025-13-01", "2025-02-30", "soon", "-000001-01-01", "0000-12-31", "1", "x2025-11-01"]
        {
            assert_eq!(text.parse::<Day>(), Err(DayError), "{text}");
        }
        assert_eq!(Day::of(Millis(i64::MIN)), Day::FIRST);
        assert_eq!(Day::of(Millis(1_761_955_200_000)), "2025-11-01".parse().expect("a day"));
    }
}

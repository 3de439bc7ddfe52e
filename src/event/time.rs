//! Times as people send them: RFC 3339, a date alone, a date and time without offset (UTC), or epoch
//! milliseconds. Held as milliseconds since 1970.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub i64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a time such as 2025-11-01T10:00:00Z, 2025-11-01 or epoch milliseconds")]
pub struct TimeError;

impl Millis {
    pub fn now() -> Self {
        Self(Timestamp::now().as_millisecond())
    }

    pub fn from_epoch(millis: i64) -> Result<Self, TimeError> {
        Timestamp::from_millisecond(millis).map(|_| Self(millis)).map_err(|_| TimeError)
    }

    /// RFC 3339 with milliseconds, in UTC.
    pub fn to_text(self) -> String {
        match Timestamp::from_millisecond(self.0) {
            Ok(time) => format!("{time:.3}"),
            Err(_) => self.0.to_string(),
        }
    }
}

impl std::str::FromStr for Millis {
    type Err = TimeError;
    fn from_str(text: &str) -> Result<Self, TimeError> {
        if let Ok(time) = text.parse::<Timestamp>() {
            return Ok(Self(time.as_millisecond()));
        }
        let civil = match text.parse::<DateTime>() {
            Ok(civil) => civil,
            Err(_) => text.parse::<Date>().map_err(|_| TimeError)?.at(0, 0, 0, 0),
        };
        let zoned = civil.to_zoned(TimeZone::UTC).map_err(|_| TimeError)?;
        Ok(Self(zoned.timestamp().as_millisecond()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_means_the_same_instant() {
        for text in [
            "2025-11-01T10:00:00Z",
            "2025-11-01T10:00:00",
            "2025-11-01T11:00:00+01:00",
            "2025-11-01 10:00:00",
        ] {
            assert_eq!(text.parse::<Millis>(), Ok(Millis(1_761_991_200_000)), "{text}");
        }
        assert_eq!("2025-11-01".parse::<Millis>(), Ok(Millis(1_761_955_200_000)));
        assert_eq!(Millis(1_761_991_200_000).to_text(), "2025-11-01T10:00:00.000Z");
        for text in ["", "yesterday", "2025-13-01", "2025-02-30", "10:00"] {
            assert!(text.parse::<Millis>().is_err(), "{text}");
        }
    }
}

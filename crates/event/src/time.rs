//! Times as clients send them: RFC 3339, only a date, a date and time without offset (which is UTC), or epoch
//! milliseconds. They are stored as milliseconds since 1970.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Millis(pub i64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a time such as 2025-11-01T10:00:00Z, 2025-11-01 or epoch milliseconds")]
pub struct TimeError;

impl Millis {
    pub fn now() -> Self {
        Self(Timestamp::now().as_millisecond())
    }

    /// Fails if the time is before the year 1 or after the year 9999.
    pub fn from_epoch(millis: i64) -> Result<Self, TimeError> {
        if (FIRST..=LAST).contains(&millis) { Ok(Self(millis)) } else { Err(TimeError) }
    }

    /// Returns year, month and day in UTC.
    pub(crate) fn date(self) -> (i64, u64, u64) {
        date_of(self.0.div_euclid(DAY_MILLIS))
    }

    /// Appends the time in UTC as databases write it: `2025-11-01 10:00:00`, with milliseconds unless they are zero.
    /// It runs for every row and is written by hand for speed.
    pub fn put_civil(self, into: &mut String) {
        let ((year, month, day), millis) = (self.date(), self.0.rem_euclid(DAY_MILLIS));
        let (year, sign) = (year.unsigned_abs(), if year < 0 { "-" } else { "" });
        into.push_str(sign);
        put_two(into, year / 100);
        put_two(into, year % 100);
        for (before, number) in [('-', month), ('-', day)] {
            into.push(before);
            put_two(into, number);
        }
        let seconds = millis as u64 / 1_000;
        for (before, number) in [(' ', seconds / 3_600), (':', seconds / 60 % 60), (':', seconds % 60)] {
            into.push(before);
            put_two(into, number);
        }
        let part = millis as u64 % 1_000;
        if part > 0 {
            into.push('.');
            into.push(digit(part / 100));
            put_two(into, part % 100);
        }
    }

    /// Returns the seconds from this time to `later`; 0 if `later` is earlier.
    pub fn seconds_until(self, later: Self) -> u64 {
        u64::try_from(later.0.saturating_sub(self.0) / 1000).unwrap_or(0)
    }

    /// Returns the time in UTC as RFC 3339 with milliseconds, or the bare number if it is out of range.
    pub fn to_text(self) -> String {
        if Self::from_epoch(self.0).is_err() {
            return self.0.to_string();
        }
        let ((year, month, day), millis) = (self.date(), self.0.rem_euclid(DAY_MILLIS));
        let (hour, minute) = (millis / 3_600_000, millis / 60_000 % 60);
        let (second, part) = (millis / 1_000 % 60, millis % 1_000);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{part:03}Z")
    }
}

/// The range from 0001-01-01 to the end of 9999-12-31. RFC 3339 can express it, and every database can store it.
const FIRST: i64 = -62_135_596_800_000;
const LAST: i64 = 253_402_300_799_999;
const DAY_MILLIS: i64 = 24 * 3_600 * 1_000;

/// The days from 0000-03-01 to 1970-01-01. The calculation uses years that begin in March, so that a leap day is the
/// last day of its year.
const DAYS_TO_1970: i64 = 719_468;
const DAYS_IN_400: i64 = 146_097;

/// Converts days since 1970 to year, month and day of the Gregorian calendar.
fn date_of(day: i64) -> (i64, u64, u64) {
    let day = day + DAYS_TO_1970;
    let (era, of_era) = (day.div_euclid(DAYS_IN_400), day.rem_euclid(DAYS_IN_400));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year + i64::from(month <= 2), month as u64, day as u64)
}

fn put_two(into: &mut String, number: u64) {
    into.push(digit(number / 10 % 10));
    into.push(digit(number % 10));
}

fn digit(number: u64) -> char {
    char::from(b'0' + number as u8)
}

/// Parses the form in which most programs write times: `2025-11-01T10:00:00Z`, also with milliseconds. It runs for
/// every row and is written by hand for speed. Returns `None` for everything else, which the general parser decides.
fn parse_usual(text: &[u8]) -> Option<Millis> {
    let part = match text.get(19..)? {
        b"Z" => 0,
        [b'.', a, b, c, b'Z'] => number(&[*a, *b, *c])?,
        _ => return None,
    };
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if marks.iter().any(|(at, mark)| text[*at] != *mark) {
        return None;
    }
    let (year, month, day) = (number(&text[..4])?, number(&text[5..7])?, number(&text[8..10])?);
    let (hour, minute, second) = (number(&text[11..13])?, number(&text[14..16])?, number(&text[17..19])?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days_until(year, month, day);
    // Only the days 29 to 31 need a check against the length of the month.
    if day > 28 && date_of(days) != (year, month as u64, day as u64) {
        return None;
    }
    Some(Millis(((days * 24 + hour) * 3_600 + minute * 60 + second) * 1_000 + part))
}

/// Returns whether the text begins with a year of four digits, as every accepted form does.
fn begins_with_a_year(text: &[u8]) -> bool {
    text.get(4) == Some(&b'-') && text[..4].iter().all(u8::is_ascii_digit)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits
        .iter()
        .try_fold(0, |value, byte| byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0')))
}

/// Converts a date to days since 1970; the inverse of `date_of`.
fn days_until(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    era * DAYS_IN_400 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - DAYS_TO_1970
}

impl std::str::FromStr for Millis {
    type Err = TimeError;
    fn from_str(text: &str) -> Result<Self, TimeError> {
        if let Some(time) = parse_usual(text.as_bytes()) {
            return Self::from_epoch(time.0);
        }
        if !begins_with_a_year(text.as_bytes()) {
            return Err(TimeError);
        }
        if let Ok(time) = text.parse::<Timestamp>() {
            return Self::from_epoch(time.as_millisecond());
        }
        let civil = match text.parse::<DateTime>() {
            Ok(civil) => civil,
            Err(_) => text.parse::<Date>().map_err(|_| TimeError)?.at(0, 0, 0, 0),
        };
        let [hour, minute, second] = [civil.hour(), civil.minute(), civil.second()].map(i64::from);
        let days = days_until(civil.year().into(), civil.month().into(), civil.day().into());
        let seconds = (days * 24 + hour) * 3_600 + minute * 60 + second;
        Self::from_epoch(seconds * 1_000 + i64::from(civil.millisecond()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_as_the_same_instant() {
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
        for (text, written) in [
            ("2025-11-01T10:00:00Z", "2025-11-01 10:00:00"),
            ("2024-02-29T23:59:59.007Z", "2024-02-29 23:59:59.007"),
            ("1969-12-31T23:59:59.999Z", "1969-12-31 23:59:59.999"),
            ("0001-01-01", "0001-01-01 00:00:00"),
        ] {
            let mut civil = String::new();
            text.parse::<Millis>().expect("a time").put_civil(&mut civil);
            assert_eq!(civil, written);
        }
        assert_eq!(parse_usual(b"2025-11-01T10:00:00.007Z"), Some(Millis(1_761_991_200_007)));
        for text in ["", "yesterday", "2025-13-01", "2025-02-30", "2025-02-30T10:00:00Z", "10:00"] {
            assert!(text.parse::<Millis>().is_err(), "{text}");
        }
    }

    #[test]
    fn times_outside_of_the_years_1_to_9999_are_refused() {
        for (text, millis) in [
            ("0001-01-01T00:00:00.000Z", FIRST),
            ("9999-12-31T23:59:59.999Z", LAST),
            ("9999-12-31T00:00:00.000Z", LAST + 1 - DAY_MILLIS),
        ] {
            assert_eq!(text.parse(), Ok(Millis(millis)));
            assert_eq!(
                (Millis::from_epoch(millis), Millis(millis).to_text()),
                (Ok(Millis(millis)), text.to_owned())
            );
        }
        assert_eq!("9999-12-31".parse(), Ok(Millis(LAST + 1 - DAY_MILLIS)));
        assert_eq!("9999-12-31 23:59:59".parse(), Ok(Millis(LAST - 999)));
        for beyond in [FIRST - 1, LAST + 1, i64::MIN, i64::MAX] {
            assert_eq!(Millis::from_epoch(beyond), Err(TimeError));
            assert_eq!(Millis(beyond).to_text(), beyond.to_string());
        }
        for text in [
            "0000-12-31",
            "0000-01-01T00:00:00Z",
            "-000001-01-01",
            "+002023-10-27T10:00:00Z",
            "20231027T100000Z",
            "20231027",
            "10000-01-01",
        ] {
            assert_eq!(text.parse::<Millis>(), Err(TimeError), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn the_fast_parser_agrees_with_the_general_one(text in "[0-2][0-9]{3}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9](\\.[0-9]{3})?Z") {
            if let Some(time) = parse_usual(text.as_bytes()) {
                let known = text.parse::<Timestamp>().map(|time| Millis(time.as_millisecond()));
                proptest::prop_assert_eq!(Some(time), known.ok());
                proptest::prop_assert_eq!(time.to_text().parse(), Millis::from_epoch(time.0));
            }
        }

        #[test]
        fn a_time_written_for_a_database_is_read_back(millis in -62_000_000_000_000_i64..253_000_000_000_000) {
            let mut civil = String::new();
            Millis(millis).put_civil(&mut civil);
            proptest::prop_assert_eq!(civil.parse::<Millis>(), Ok(Millis(millis)));
        }
    }
}

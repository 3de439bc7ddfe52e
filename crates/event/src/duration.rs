//! Durations as people write them: `90s`, `15m`, `12h`, `7d`.

use std::time::Duration;

use serde::Deserialize;

use super::limits::CONFIGURED_DURATION_MAX;

/// A duration in a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct WrittenDuration(pub Duration);

impl TryFrom<String> for WrittenDuration {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        parse_duration(&text).map(Self)
    }
}

/// Parses a duration. Fails with the reason if `text` is not one, or if it is too long.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration such as `90s`, `15m`, `12h` or `7d`");
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..unit_at].parse().map_err(|_| wrong())?;
    let seconds = match &text[unit_at..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return Err(wrong()),
    };
    let duration = number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)?;
    if duration <= CONFIGURED_DURATION_MAX {
        Ok(duration)
    } else {
        Err(format!("`{text}` is more than {} days", CONFIGURED_DURATION_MAX.as_secs() / (24 * 3600)))
    }
}

/// Parses a duration that may also be in milliseconds.
pub fn parse_short_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration such as `500ms`, `5s` or `1m`");
    match text.strip_suffix("ms") {
        Some(number) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
            number.parse().map(Duration::from_millis).map_err(|_| wrong())
        }
        _ => parse_duration(text).map_err(|_| wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_with_a_unit_and_at_most_36500_days() {
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("36500d"), Ok(CONFIGURED_DURATION_MAX));
        for wrong in ["", "7", "d", "-1d", "1.5h", "1w", "36501d", "200000000000d", "99999999999999999999d"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_short_duration_may_be_in_milliseconds() {
        assert_eq!(parse_short_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_short_duration("5s"), Ok(Duration::from_secs(5)));
        for wrong in ["", "ms", "-1ms", "+1ms", "1.5ms", "5", "1 ms", "99999999999999999999ms"] {
            assert!(parse_short_duration(wrong).is_err(), "{wrong}");
        }
    }
}

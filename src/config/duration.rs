//! Durations as people write them: `90s`, `15m`, `12h`, `7d`.

use std::time::Duration;

use event::limits::CONFIGURED_DURATION_MAX;

use super::ConfigError;
use super::location::Declared;

pub fn parse_duration(text: &Declared<String>) -> Result<Duration, ConfigError> {
    duration(&text.value).map_err(|reason| ConfigError::at(&text.location, reason))
}

/// Parses a duration. Fails with the reason if `text` is not one, or if it is too long.
pub fn duration(text: &str) -> Result<Duration, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_with_a_unit_and_at_most_36500_days() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("36500d"), Ok(CONFIGURED_DURATION_MAX));
        for wrong in ["", "7", "d", "-1d", "1.5h", "1w", "36501d", "200000000000d", "99999999999999999999d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}

//! Durations as people write them: `90s`, `15m`, `12h`, `7d`.

use std::time::Duration;

use super::ConfigError;
use super::file::Origin;

pub fn parse_duration(text: &str, origin: &Origin) -> Result<Duration, ConfigError> {
    duration(text).map_err(|reason| ConfigError::at(origin, reason))
}

/// The duration that `text` is, or in words that it is none.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration such as `90s`, `15m`, `12h` or `7d`");
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..unit_at].parse().map_err(|_| wrong())?;
    let seconds = match &text[unit_at..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return Err(wrong()),
    };
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

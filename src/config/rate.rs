//! Rates as people write them: `1000/s`, `60/m`.

use std::time::Duration;

use super::ConfigError;
use super::file::{Declared, Location};

/// So many requests in such a time, evenly, of which those of one second may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Between one and the next.
    pub interval: Duration,
    /// Those that may come at once.
    pub burst: u32,
}

/// Who may ask how often; `None` is as often as they like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub per_key: Option<Rate>,
    pub per_address: Option<Rate>,
}

pub fn parse_rate(text: &Declared<String>) -> Result<Rate, ConfigError> {
    rate(&text.value).ok_or_else(|| wrong(&text.value, &text.origin))
}

fn wrong(text: &str, origin: &Location) -> ConfigError {
    ConfigError::at(origin, format!("`{text}` is no rate such as `1000/s` or `60/m`"))
}

fn rate(text: &str) -> Option<Rate> {
    let (number, unit) = text.split_once('/')?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        _ => return None,
    };
    let number = number.parse::<u32>().ok().filter(|number| (1..=1_000_000).contains(number))?;
    Some(Rate { interval: Duration::from_secs(seconds) / number, burst: (number / seconds as u32).max(1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_a_seconds_worth_at_once() {
        let of = |text: &str| rate(text).map(|rate| (rate.interval.as_micros(), rate.burst));
        assert_eq!(of("1000/s"), Some((1_000, 1_000)));
        assert_eq!(of("600/m"), Some((100_000, 10)));
        assert_eq!(of("6/m"), Some((10_000_000, 1)));
        for text in ["", "10", "0/s", "-1/s", "1/h", "1.5/s", "2000000/s", "ten/s", "1 /s", "+/s"] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
